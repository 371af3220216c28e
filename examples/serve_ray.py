"""An exported model over HTTP with Ray Serve: requests that come together are one batch.

pip install 'convattn-zoo[serve]' && python examples/serve_ray.py DIR 8000
POST / takes the bytes of an image file; an image that cannot be read gets status 400.
"""

import asyncio
import sys

import ray
from ray import serve
from starlette.responses import JSONResponse

from export import open_predictor
from zoo.data.image_reading import decode
from zoo.evaluation.batch.job import check_neighbours


@serve.deployment(max_ongoing_requests=100)
class Classify:
    def __init__(self, path):
        self.predictor = open_predictor(path)
        check_neighbours(self.predictor, 32)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def classify(self, images):
        return await asyncio.to_thread(self.predictor.predict, images)

    async def __call__(self, request):
        try:
            image = await asyncio.to_thread(decode, await request.body(), "the image")
        except ValueError as error:
            return JSONResponse({"detail": str(error)}, 400)
        return (await self.classify(image)).to_dict()


if __name__ == "__main__":
    ray.init(num_cpus=3, include_dashboard=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"port": int(sys.argv[2])})  # 127.0.0.1 unless told otherwise
    serve.run(Classify.bind(sys.argv[1]), blocking=True)
