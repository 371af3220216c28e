// The page of a model: parity first, then an answer, then where its heads look.

import { AnswerPanel } from "./answer_panel.mjs";
import { AttentionPanel } from "./attention_panel.mjs";
import { watchInputs } from "./inputs.mjs";
import { Lab } from "./lab.mjs";
import { ParityPanel } from "./parity_panel.mjs";
import { RunsPanel } from "./runs_panel.mjs";
import { $ } from "./text.mjs";

const base = new URL(".", document.baseURI).href;
const parity = new ParityPanel($("#parity"));

try {
  const facts = await (await fetch(new URL("model.json", base))).json();
  const lab = new Lab(facts, base, (bytes) => parity.loaded(bytes, facts.first_load_bytes));
  const attention = facts.attention ? new AttentionPanel($("#attention"), lab) : null;
  const answer = new AnswerPanel($("#answer"), lab, attention);
  const runs = new RunsPanel($("#runs"), lab);
  const begin = async () => {
    const vectors = await parity.prove(lab);
    runs.enable(vectors, parity.result);
    await answer.start();
  };
  watchInputs($("#answer"), answer);
  if (facts.starts_alone) await begin();
  else parity.ask(facts, () => begin().catch((error) => parity.failed(error)));
} catch (error) {
  parity.failed(error);
}
document.documentElement.dataset.settled = "";
