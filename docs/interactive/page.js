"use strict";
const demo = document.getElementById("demo"), told = JSON.parse(document.getElementById("demo-told").textContent);
const [picture, canvas, note, status, file] = ["picture", "map", "note", "status", "file"].map((name) =>
  document.getElementById(`demo-${name}`));
const [faces, rows, switches, listeners] = [".demo-face", ".demo-row", "[role=switch]", "tbody tr"].map((selector) =>
  [...demo.querySelectorAll(selector)]);
const groups = Object.keys(told.groups), attributes = Object.values(told.groups).flat();
const INVITATION = note.textContent;
let compute = null, input = null, before = null, now = null, pinned = null, latest = 0;

const words = (name) => name.replaceAll("_", " ");
const percent = (share) => `${(100 * share).toFixed(0)}\u00a0%`;
const length = (share) => `${100 * share}%`;
const counted = (count) => (count === 1 ? "1 attribute" : `${count} attributes`);
const isOn = (button) => button.ariaChecked === "true";
const state = (part) => switches.filter((button) => button.dataset.part === part).map((button) => Number(isOn(button)));
const allOn = () => switches.every(isOn);

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

async function ask(gates, places, listening) {
  const { logits, maps, affinity } = await compute(input, gates, places, listening);
  const size = maps.dims[2] * maps.dims[3];
  return {
    logits: [...logits.data],
    shares: [...logits.data].map((logit) => 1 / (1 + Math.exp(-logit))),
    maps: attributes.map((_, index) => maps.data.slice(index * size, (index + 1) * size)),
    shape: maps.dims.slice(2),
    affinity: [...affinity.data],
  };
}

async function update(tell) {
  if (!input || !compute) return;
  const mine = ++latest, ones = groups.map(() => 1);
  try {
    const first = before ?? (await ask(ones, ones, ones));
    const second = allOn() ? first : await ask(state("gate"), state("place"), state("listening"));
    if (mine !== latest) return; // another picture or switch came meanwhile
    [before, now] = [first, second];
    show();
    say(tell());
  } catch (error) {
    say(`The model cannot compute: ${error.message ?? error}`, true);
  }
}

function take(source) {
  input = asInput(source, told.image);
  before = null;
  return update(likely);
}

function likely() {
  return `${now.shares.filter((share) => share > 0.5).length} of ${counted(attributes.length)} are likely.`;
}

function show() {
  rows.forEach((row, index) => {
    const [was, is] = [before.shares[index], now.shares[index]], [filled, mark] = row.querySelector(".demo-bar").children;
    const points = Math.round(100 * is) - Math.round(100 * was);
    filled.style.width = length(is);
    mark.style.left = length(was);
    mark.hidden = !points;
    row.querySelector(".demo-number").textContent = percent(is);
    row.querySelector(".demo-change").textContent = points ? `${points > 0 ? "+" : "\u2212"}${Math.abs(points)}` : "";
    row.classList.toggle("unlikely", is <= 0.5);
  });
  const listening = state("listening");
  listeners.forEach((row, listener) => {
    row.classList.toggle("off", !listening[listener]);
    row.querySelectorAll("td").forEach((cell, speaker) => {
      const share = now.affinity[listener * groups.length + speaker];
      cell.textContent = (100 * share).toFixed(0);
      cell.style.setProperty("--shade", length(Math.min(1.5 * share, 0.55)));
    });
  });
  showMap(pinned);
}

function effect(what) {
  const changes = attributes.map((_, index) => Math.abs(now.shares[index] - before.shares[index]));
  const most = changes.indexOf(Math.max(...changes));
  if (allOn()) return `${what}. All is on again.`;
  if (changes[most] < 0.005) return `${what}. No probability changes by half a point.`;
  const sides = attributes.filter((_, index) => now.shares[index] > 0.5 !== before.shares[index] > 0.5).length;
  const largest = `${words(attributes[most])}, ${percent(before.shares[most])} to ${percent(now.shares[most])}`;
  return `${what}. ${counted(sides)} ${sides === 1 ? "crosses" : "cross"} 50\u00a0%. Largest change: ${largest}.`;
}

function flip(buttons, on, what) {
  buttons.forEach((button) => { button.ariaChecked = String(on); });
  return update(() => effect(what));
}

// The strongest colour is the same for all maps of a picture.
function showMap(index) {
  const map = now && index !== null ? now.maps[index] : null;
  demo.classList.toggle("mapped", map !== null);
  canvas.ariaLabel = map === null ? "No map" : `Map of ${words(attributes[index])}`;
  note.textContent = map === null ? INVITATION : explained(index);
  if (map === null) return;
  const sizes = before.maps.flatMap((values) => [...values].map(Math.abs)).sort((a, b) => a - b);
  const limit = Math.max(sizes[Math.floor(0.95 * sizes.length)], 1e-6);
  drawMap(canvas, map, now.shape, limit, told.map_centres);
}

function explained(index) {
  const signed = (value) => value.toFixed(2).replace("-", "\u2212");
  const map = now.maps[index], mean = map.reduce((sum, value) => sum + value, 0) / map.length;
  const range = `from ${signed(Math.min(...map))} to ${signed(Math.max(...map))}`;
  return `${words(attributes[index])}: ${range}, on average ${signed(mean)}. That is the logit, and gives ${percent(now.shares[index])}.`;
}

function pin(index) {
  pinned = index;
  rows.forEach((row, at) => { row.ariaPressed = String(at === index); });
  showMap(pinned);
}

function choose(face) {
  const image = face.querySelector("img");
  faces.forEach((other) => { other.ariaPressed = String(other === face); });
  [picture.src, picture.alt] = [image.src, image.alt];
  return take(image);
}

async function open(blob) {
  try {
    const source = await readPicture(blob);
    faces.forEach((face) => { face.ariaPressed = "false"; });
    if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
    [picture.src, picture.alt] = [URL.createObjectURL(blob), "The picture you chose"];
    await take(source);
  } catch (error) {
    say(error.message, true);
  }
}

rows.forEach((row, index) => {
  for (const event of ["mouseenter", "focus"]) row.addEventListener(event, () => showMap(index));
  for (const event of ["mouseleave", "blur"]) row.addEventListener(event, () => showMap(pinned));
  row.addEventListener("click", () => pin(pinned === index ? null : index));
});
faces.forEach((face) => face.addEventListener("click", () => choose(face)));
switches.forEach((button) => button.addEventListener("click", () =>
  flip([button], !isOn(button), `${button.ariaLabel}: ${isOn(button) ? "off" : "on"}`)));
demo.querySelectorAll("[data-all]").forEach((button) => button.addEventListener("click", () => {
  const part = button.dataset.all;
  if (part === "on") return flip(switches, true, button.textContent);
  return flip(switches.filter((other) => other.dataset.part === part), false, button.textContent);
}));
file.addEventListener("change", () => { if (file.files.length) open(file.files[0]); file.value = ""; });
document.addEventListener("dragover", (event) => { event.preventDefault(); demo.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) demo.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  demo.classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) open(dropped);
  else say("What was dropped is not a file.", true);
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") pin(null); });

if (demo.dataset.runtime === "ready") {
  say("Loading the model \u2026");
  loadModel().then((model) => {
    compute = model;
    return input ? update(likely) : choose(faces[0]);
  }).catch((error) => say(error.message, true));
}
