// The ways for an image to come in: choose, drop, paste, camera.

import { $ } from "./text.mjs";

export function watchInputs(root, panel) {
  const take = (file) => file && panel.show(file, file.name || "your image");
  const chooser = $("input[type=file]", root);
  $(".choose", root).addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    take(chooser.files[0]);
    chooser.value = "";
  });
  watchDrops($(".drop", root), take);
  document.addEventListener("paste", (event) => take(pasted(event.clipboardData)));
  $(".paste", root).addEventListener("click", () => paste(root, take));
  $(".camera", root).addEventListener("click", () => photograph(root, take));
}

function watchDrops(zone, take) {
  for (const kind of ["dragover", "dragenter"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

function pasted(data) {
  const item = [...(data?.items ?? [])].find(({ type }) => type.startsWith("image/"));
  return item?.getAsFile();
}

async function paste(root, take) {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) return take(await item.getType(type));
    }
    tell(root, "There is no image on the clipboard.");
  } catch {
    tell(root, "This browser does not let a button paste: press Ctrl+V or ⌘V instead.");
  }
}

async function photograph(root, take) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch {
    return tell(root, "No camera could be opened: there is none, or it was not allowed.");
  }
  const dialog = $("dialog", root);
  const video = $("video", dialog);
  video.srcObject = stream;
  dialog.showModal();
  await video.play();
  $(".shoot", dialog).onclick = () => dialog.close("taken");
  dialog.onclose = async () => {
    const taken = dialog.returnValue === "taken";
    const shot = taken ? await frame(video) : null;
    dialog.returnValue = "";
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    take(shot);
  };
}

function frame(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

function tell(root, text) {
  const place = $(".status", root);
  place.textContent = text;
  place.dataset.state = "problem";
}
