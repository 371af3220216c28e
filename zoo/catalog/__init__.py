"""One torch-free data file per family; `zoo.catalog.registry` discovers each by its FAMILY."""
