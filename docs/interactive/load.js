"use strict";
// Classic scripts that hold the data: a page opened from a file may neither fetch files nor load modules.
const FOLDER = new URL(".", document.currentScript.src);

function addScript(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(name, FOLDER);
    script.onload = resolve;
    script.onerror = () => reject(new Error(`The file ${name} beside this page is missing. Build the site again.`));
    document.head.append(script);
  });
}

async function unpack(letters) {
  const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Answers with a function from an image and switches to what the model computes.
async function loadModel() {
  if (!("DecompressionStream" in window && "WebAssembly" in window))
    throw new Error("This browser is too old for this page: it needs WebAssembly and DecompressionStream.");
  await Promise.all([addScript("model.js"), addScript("runtime.js")]);
  const [code, wasm, model] = await Promise.all([packedRuntime.module, packedRuntime.wasm, packedModel].map(unpack));
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1, proxy: false });
  const session = await ort.InferenceSession.create(model);
  const tensor = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);
  let queue = Promise.resolve(); // a session computes one thing at a time
  return ({ values, shape }, gates, places, listening) => {
    const feeds = {
      images: tensor(values, [1, ...shape]),
      gates_on: tensor(gates, [gates.length]),
      places_on: tensor(places, [places.length]),
      listening: tensor(listening, [listening.length]),
    };
    const answer = queue.then(() => session.run(feeds));
    queue = answer.catch(() => {});
    return answer;
  };
}
