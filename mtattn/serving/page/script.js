const [file, drop, frame, picture, canvas, status, groups] =
  ["#file", ".drop", ".picture", "#picture", "#map", "#status", "#groups"].map((name) => document.querySelector(name));
let latest = 0, maps = {}, centres = null, limit = 1, pinned = null;

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

async function predict(blob) {
  const mine = ++latest;
  clear();
  URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(blob);
  frame.hidden = false;
  say("Looking …");
  try {
    const { maps: hasMaps, image } = await (await fetch("health")).json();
    cover(image.crop ?? 1);
    const response = await fetch(`predict?maps=${hasMaps}`, { method: "POST", body: blob });
    const answer = await response.json();
    if (mine !== latest) return; // a later picture was chosen meanwhile
    if (!response.ok) throw new Error(typeof answer.detail === "string" ? answer.detail : `The server answers ${response.status}.`);
    show(answer);
  } catch (error) {
    if (mine === latest) say(error instanceof TypeError ? "The server does not answer." : error.message, true);
  }
}

function clear() {
  groups.replaceChildren();
  maps = {};
  pinned = null;
  showMap(null);
}

function show(answer) {
  [maps, centres] = [answer.maps ?? {}, answer.map_centres];
  const sizes = Object.values(maps).flat(2).map(Math.abs).sort((a, b) => a - b);
  limit = Math.max(sizes[Math.floor(0.99 * sizes.length)] ?? 0, 1e-6);
  const answers = answer.answers ?? {}, units = answer.units ?? {};
  let count = 0, likely = 0;
  for (const [group, members] of Object.entries(answer.groups)) {
    const section = make("section"), list = make("ul");
    section.append(make("h2", group), list);
    for (const [name, value] of Object.entries(members)) {
      const said = name in answers ? answers[name] : value > 0.5;
      list.append(said === null ? row(name, value, false, { text: `${percent(value)}, uncertain` })
        : typeof said === "boolean" ? row(name, value, said)
        : typeof said === "string" ? row(name, value[said], true, { text: `${said} (${percent(value[said])})`, map: `${name}=${said}` })
        : row(name, null, true, { text: `${Number(said.toPrecision(3))} ${units[name] ?? ""}`.trim() }));
      count += typeof value === "number" && (said === null || typeof said === "boolean");
      likely += said === true;
    }
    groups.append(section);
  }
  say(count ? `${likely} of ${count} attributes are likely.` : "");
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

// A probability has a bar; a class, a level and a number have words. The map of a class is that of its column.
function row(name, probability, isLikely, { text = percent(probability), map = name } = {}) {
  const item = make("li"), button = make("button");
  const bar = make("span"), filled = make("span"), number = make("span", text);
  [bar.className, number.className] = ["bar", "number"];
  filled.style.width = `${100 * probability}%`;
  bar.append(filled);
  button.type = "button";
  button.classList.toggle("no", !isLikely);
  button.classList.toggle("worded", text !== percent(probability));
  button.append(make("span", name.replaceAll("_", " ")), bar, number);
  item.append(button);
  if (!(map in maps)) return item;
  button.ariaPressed = "false";
  const again = () => showMap(pinned?.name ?? null);
  for (const event of ["mouseenter", "focus"]) button.addEventListener(event, () => showMap(map));
  for (const event of ["mouseleave", "blur"]) button.addEventListener(event, again);
  button.addEventListener("click", () => pin(pinned?.name === map ? null : { name: map, button }));
  return item;
}

function pin(chosen) {
  if (pinned) pinned.button.ariaPressed = "false";
  pinned = chosen;
  if (pinned) pinned.button.ariaPressed = "true";
  showMap(pinned?.name ?? null);
}

// A model of the middle of pictures has maps of that middle only.
function cover(crop) {
  const [down, across] = Array.isArray(crop) ? crop : [crop, crop];
  const share = (part) => `${100 * part}%`;
  Object.assign(canvas.style, {
    top: share((1 - down) / 2), left: share((1 - across) / 2), height: share(down), width: share(across),
  });
}

function showMap(name) {
  frame.classList.toggle("mapped", name !== null);
  canvas.ariaLabel = name === null ? "No map" : `Map of ${name}`;
  const values = maps[name] ?? [[0]];
  drawMap(canvas, values.flat(), [values.length, values[0].length], limit, name === null ? null : centres);
}

function make(tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

picture.addEventListener("error", () => { frame.hidden = true; }); // the server may read what the browser cannot show
file.addEventListener("change", () => { if (file.files.length) predict(file.files[0]); file.value = ""; });
document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) predict(dropped);
  else say("What was dropped is not a file.", true);
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") pin(null); });

fetch("model").then((response) => response.json()).then((model) => {
  document.title = model.model;
  document.querySelector("h1").textContent = model.model;
  const count = model.attributes.length;
  document.querySelector("#what").textContent = `A model of ${count} attribute${count > 1 ? "s" : ""} of pictures.`;
}).catch(() => say("The server does not answer.", true));
