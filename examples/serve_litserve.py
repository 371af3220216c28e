"""An exported model over HTTP with LitServe: requests that come together are one batch.

pip install 'convattn-zoo[serve]' && python examples/serve_litserve.py DIR 8000
POST /predict takes {"image": the file in base64}; an image that cannot be read gets status 400.
"""

import base64
import sys

from fastapi.responses import JSONResponse
from litserve import LitAPI, LitServer

from export import open_predictor
from zoo.data.image_reading import UNREADABLE, decode
from zoo.evaluation.batch.job import check_neighbours


class Classify(LitAPI):
    def setup(self, device):
        self.predictor = open_predictor(self.path)
        check_neighbours(self.predictor, self.max_batch_size)

    def decode_request(self, request):
        try:
            return decode(base64.b64decode(request["image"]), "the image")
        except (ValueError, TypeError, LookupError) as error:  # raised, it would answer the batch
            return error if isinstance(error, UNREADABLE) else ValueError('send {"image": BASE64}')

    def predict(self, images):
        found = iter(self.predictor.predict([x for x in images if not isinstance(x, Exception)]))
        return [x if isinstance(x, Exception) else next(found).to_dict() for x in images]

    def encode_response(self, output):
        return output if isinstance(output, dict) else JSONResponse({"detail": str(output)}, 400)


if __name__ == "__main__":
    api = Classify(max_batch_size=32, batch_timeout=0.005)
    api.path, port = sys.argv[1:]
    LitServer(api, accelerator="cpu").run("127.0.0.1", int(port), generate_client_file=False)
