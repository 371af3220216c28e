"""One torch-free data file per family. `zoo.registry` discovers every module here by its FAMILY."""
