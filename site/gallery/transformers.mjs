// A bundle in transformers.js, under node: the two ways that docs/hub.md shows.
//
//     node transformers.mjs FOLDER NAME IMAGE        FOLDER/NAME is the bundle
//
// Prints { logits, label, pipeline: { label, score } }.

import { readFileSync } from "node:fs";

import { AutoImageProcessor, AutoModel, RawImage, env, pipeline } from "@huggingface/transformers";

const [folder, name, file] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = folder;

const model = await AutoModel.from_pretrained(name, { dtype: "fp32" });
const processor = await AutoImageProcessor.from_pretrained(name);
const image = await RawImage.read(file);
const { logits } = await model(await processor(image));
const best = logits.data.indexOf(Math.max(...logits.data));

const config = JSON.parse(readFileSync(`${folder}/${name}/config.json`, "utf8"));
const classify = await pipeline("image-classification", name, {
  dtype: "fp32",
  config: { ...config, model_type: "vit" },
});
const [found] = await classify(image);

console.log(
  JSON.stringify({
    logits: Array.from(logits.data),
    label: model.config.id2label[best],
    pipeline: found,
  }),
);
