// A microphone whose words appear while somebody speaks, and a player whose words appear while the sound
// plays. The page gives `data` (see speech.py); the microphone's sound goes back as the trigger "sound".
const UNSURE = 0.6; // confidence below which a word is drawn as unsure
const PACKET_S = 0.32; // of sound before a message is worth sending
const MESSAGE_S = 2; // of sound in one message, so that words come while a late server catches up
const PATIENCE_MS = 120000; // without any answer; building a new vocabulary takes about a minute
const WORKLET = `registerProcessor("pcm", class extends AudioWorkletProcessor {
  process(inputs) { if (inputs[0][0]) this.port.postMessage(inputs[0][0].slice()); return true; } });`;

const el = (name, attributes = {}, ...children) => {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
};
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;

/** The words to show of a size after `at` seconds of sound: what it had understood then, or its final words. */
export function wordsAt(size, at, seconds) {
  const final = size.words.length ? size.words : size.text.split(" ").filter(Boolean).map((text) => [text, null, null, 1]);
  if (at >= seconds) return final;
  let text = "";
  for (const [when, partial] of size.partial) if (when <= at) text = partial;
  return text.split(" ").filter(Boolean).map((word, i) => (final[i] && final[i][0] === word ? final[i] : [word, null, null, 1]));
}

class Screen {
  constructor(root, report) {
    this.root = root;
    this.report = report;
    this.canvas = el("canvas", { role: "img" });
    this.time = el("span", { class: "time" });
    this.note = el("div", { class: "note" });
    this.sizes = el("div", { class: "sizes" });
    this.live = el("div", { class: "unseen", "aria-live": "polite" });
    this.button = el("button", { type: "button" });
    root.replaceChildren(el("div", { class: "bar" }, this.button, this.canvas, this.time), this.note, this.sizes, this.live);
    this.button.addEventListener("click", () => this.press());
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(this.canvas);
  }

  end() {
    this.resize.disconnect();
  }

  boxes(sizes) {
    this.shown = new Map();
    this.sizes.replaceChildren(...sizes.map((size) => {
      const words = el("div", { class: "words" });
      this.shown.set(size.name, { words, text: null });
      return el("div", { class: "size" }, el("h4", {}, size.name, el("small", {}, size.label ? ` · ${size.label}` : "")), words);
    }));
  }

  /** Draw words [text, begin s, end s, confidence] of a size, anew only where they changed. */
  write(name, words, empty) {
    const box = this.shown.get(name);
    if (!box) return;
    const text = JSON.stringify(words) + empty;
    if (box.text === text) return;
    box.text = text;
    box.words.replaceChildren(...(words.length ? words.flatMap(([word, begin, end, sure]) => {
      const span = el("span", {}, word);
      if (sure < UNSURE) { span.classList.add("unsure"); span.title = `unsure (${Math.round(100 * sure)} %)`; }
      if (begin !== null && this.hear) {
        span.classList.add("timed");
        span.dataset.begin = begin;
        span.dataset.end = end;
        span.addEventListener("click", () => this.hear(begin, end));
      }
      return [span, " "];
    }) : [el("span", { class: "none" }, empty)]));
  }

  /** Peaks [[low, high]] in -1..1 as a waveform, the first `share` of it in color. */
  wave(peaks, share) {
    const ratio = window.devicePixelRatio || 1, c = this.canvas;
    const W = Math.round(c.clientWidth * ratio), H = Math.round(c.clientHeight * ratio);
    if (!W || !H) return;
    if (c.width !== W || c.height !== H) { c.width = W; c.height = H; }
    const g = c.getContext("2d"), style = getComputedStyle(this.root);
    const accent = style.getPropertyValue("--accent").trim(), most = peaks.reduce((a, [l, h]) => Math.max(a, -l, h), 0.05);
    g.clearRect(0, 0, W, H);
    peaks.forEach(([low, high], i) => {
      const x = (i / peaks.length) * W;
      g.globalAlpha = x / W <= share ? 1 : 0.45;
      g.fillStyle = x / W <= share ? accent : style.color;
      const top = (0.5 - (0.46 * high) / most) * H, bottom = (0.5 - (0.46 * low) / most) * H;
      g.fillRect(x, top, Math.max(1, W / peaks.length - ratio * 0.5), Math.max(ratio, bottom - top));
    });
    g.globalAlpha = 1;
    g.fillStyle = style.color;
    if (share > 0 && share < 1) g.fillRect(share * W - ratio, 0, 2 * ratio, H);
  }
}

class Player extends Screen {
  answer(data) {
    if (this.data?.key === data.key) { this.data = data; return; }
    this.data = data;
    this.audio?.pause();
    this.audio = new Audio(data.audio);
    this.audio.preload = "auto";
    this.at = null; // null: nothing has been played yet, so everything is shown
    for (const name of ["play", "pause", "ended", "seeked"]) this.audio.addEventListener(name, () => this.step());
    this.canvas.setAttribute("aria-label", `The sound, ${clock(data.seconds)} minutes: click to play from there`);
    this.canvas.onclick = (e) => this.play(((e.clientX - this.canvas.getBoundingClientRect().left) / this.canvas.clientWidth) * data.seconds);
    this.note.textContent = data.note;
    this.boxes(data.sizes);
    this.step();
    if (data.autoplay) this.play(0);
  }

  end() {
    super.end();
    this.audio?.pause();
  }

  press() {
    if (!this.audio.paused) this.audio.pause();
    else this.play(this.audio.ended || this.at === null ? 0 : this.audio.currentTime);
  }

  play(from, until = Infinity) {
    this.until = until;
    this.audio.currentTime = from;
    this.audio.play().catch(() => { this.note.textContent = "Press Play to hear it."; });
  }

  hear = (begin, end) => this.play(Math.max(0, begin - 0.15), end + 0.15);

  step() {
    cancelAnimationFrame(this.frame);
    const playing = !this.audio.paused && !this.audio.ended;
    if (playing && this.audio.currentTime >= this.until) { this.audio.pause(); return; }
    this.button.textContent = playing ? "❚❚ Pause" : "▶ Play";
    if (playing || this.at !== null) this.at = this.audio.ended ? this.data.seconds : this.audio.currentTime;
    this.draw();
    if (playing) this.frame = requestAnimationFrame(() => this.step());
  }

  draw() {
    if (!this.data) return;
    const { seconds, sizes } = this.data, single = Number.isFinite(this.until);
    const at = this.at ?? seconds;
    this.wave(this.data.peaks, this.at === null ? 0 : at / seconds);
    this.time.textContent = `${clock(this.at ?? 0)} / ${clock(seconds)}`;
    for (const size of sizes) {
      this.write(size.name, wordsAt(size, single ? seconds : at, seconds), at >= seconds || single ? "no speech found" : "…");
      for (const span of this.shown.get(size.name).words.querySelectorAll(".timed"))
        span.classList.toggle("here", this.at !== null && at < seconds && +span.dataset.begin <= at && at < +span.dataset.end + 0.08);
    }
  }
}

class Microphone extends Screen {
  constructor(root, report) {
    super(root, report);
    this.rest();
  }

  rest() {
    this.state = "rest";
    this.peaks = [];
    this.button.textContent = "● Speak";
    this.button.disabled = false;
    this.canvas.setAttribute("aria-label", "The sound of the microphone");
    this.time.textContent = "";
    this.sizes.hidden = true; // the player has what was understood
    this.draw();
  }

  answer(data) {
    this.data = data;
    if (!this.shown || this.names !== JSON.stringify(data.sizes.map((s) => s.name))) {
      this.names = JSON.stringify(data.sizes.map((s) => s.name));
      this.boxes(data.sizes);
    }
    if (this.state === "rest") {
      this.note.textContent ||= data.hint;
      return;
    }
    if (data.session !== this.session) return;
    if (data.error) return this.stop(data.error);
    if (data.finished) { clearTimeout(this.patience); this.note.textContent = data.hint; return this.rest(); }
    if (data.received === this.sent) return;
    clearTimeout(this.patience);
    this.pieces = this.rest_of(data.received);
    this.sent = data.received;
    this.waiting = false;
    if (this.state === "listening") this.note.textContent = data.lost || "Listening. Words may still change while you speak.";
    for (const size of data.sizes) this.write(size.name, data.words[size.name] ?? [], "…");
    this.send();
  }

  rest_of(received) {
    let skip = received - this.sent;
    const left = [];
    for (const piece of this.pieces) {
      if (skip >= piece.length) skip -= piece.length;
      else { left.push(skip ? piece.subarray(skip) : piece); skip = 0; }
    }
    return left;
  }

  async press() {
    if (this.state === "listening") return this.finish();
    if (this.state !== "rest") return;
    const media = navigator.mediaDevices;
    if (!media?.getUserMedia) return this.stop("This browser gives the microphone to pages on https or on this computer only. Choose “A file” or “A sample”.");
    this.button.disabled = true;
    try {
      this.source = await media.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false } });
      await this.open();
    } catch (problem) {
      const why = { NotAllowedError: "The browser was not allowed to use the microphone: allow it in the address bar and press Speak again.", NotFoundError: "No microphone was found. Plug one in, or choose “A file” or “A sample”." }[problem.name];
      return this.stop(why ?? `The microphone cannot be used (${problem.message}). Choose “A file” or “A sample”.`);
    }
    this.session = `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    Object.assign(this, { state: "listening", sent: 0, total: 0, pieces: [], peaks: [], waiting: false, said: false });
    for (const size of this.data.sizes) this.write(size.name, [], "…");
    this.sizes.hidden = false;
    this.button.disabled = false;
    this.button.textContent = "■ Stop";
    this.note.textContent = "Listening. The first words take a moment: the recognizer is being loaded.";
  }

  async open() {
    try {
      this.context = new AudioContext({ sampleRate: 16000 });
      this.input = this.context.createMediaStreamSource(this.source);
    } catch { // Firefox joins equal rates only: the server resamples
      this.context = new AudioContext();
      this.input = this.context.createMediaStreamSource(this.source);
    }
    const module = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
    await this.context.audioWorklet.addModule(module);
    URL.revokeObjectURL(module);
    this.node = new AudioWorkletNode(this.context, "pcm", { numberOfOutputs: 0 });
    this.node.port.onmessage = (e) => this.take(e.data);
    this.input.connect(this.node);
  }

  take(samples) {
    if (this.state !== "listening") return;
    let low = 0, high = 0;
    const pcm = Int16Array.from(samples, (v) => { low = Math.min(low, v); high = Math.max(high, v); return Math.max(-1, Math.min(1, v)) * 32767; });
    this.pieces.push(pcm);
    this.total += pcm.length;
    const column = Math.floor((this.total / this.context.sampleRate) * 25);
    const [l, h] = this.peaks[column] ?? [0, 0];
    for (let i = this.peaks.length; i < column; i++) this.peaks.push([0, 0]);
    this.peaks[column] = [Math.min(l, low), Math.max(h, high)];
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
    if (this.total / this.context.sampleRate >= this.data.most) this.finish();
    else this.send();
  }

  send() {
    const pieces = [], most = MESSAGE_S * this.rate(), ending = this.state === "ending";
    let count = 0;
    for (const piece of this.pieces) {
      if (count >= most) break;
      pieces.push(piece);
      count += piece.length;
    }
    if (this.waiting || this.said || (!ending && count < PACKET_S * this.rate())) return;
    const end = ending && pieces.length === this.pieces.length;
    const bytes = new Uint8Array(2 * count);
    let at = 0;
    for (const piece of pieces) { bytes.set(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength), at); at += piece.byteLength; }
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    this.waiting = true;
    this.said = end;
    this.patience = setTimeout(() => this.stop("The server does not answer any more. Reload the page and try again."), PATIENCE_MS);
    this.report("sound", { session: this.session, from: this.sent, rate: this.rate(), end, pcm: btoa(text) });
  }

  rate() {
    return this.context.sampleRate;
  }

  finish() {
    this.state = "ending";
    this.close();
    this.button.disabled = true;
    this.note.textContent = "Understanding the last words …";
    this.send();
  }

  close() {
    this.source?.getTracks().forEach((track) => track.stop());
    this.node?.port.close();
    if (this.context?.state !== "closed") this.context?.close();
  }

  stop(why) {
    clearTimeout(this.patience);
    this.close();
    this.rest();
    this.note.textContent = why;
    this.live.textContent = why;
  }

  end() {
    super.end();
    clearTimeout(this.patience);
    this.close();
  }

  draw() {
    const shown = this.peaks.slice(-250); // the last ten seconds
    this.wave(shown.length < 250 ? [...shown, ...Array(250 - shown.length).fill([0, 0])] : shown, 0);
    if (this.state === "listening") this.time.textContent = clock(this.total / this.rate());
  }
}

export default function mount(component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".speech");
  const color = getComputedStyle(root).getPropertyValue("--st-background-color").trim().match(/^#(..)(..)(..)/);
  root.classList.toggle("dark", color ? color.slice(1).reduce((a, h) => a + parseInt(h, 16), 0) < 384 : matchMedia("(prefers-color-scheme: dark)").matches);
  const Kind = { play: Player, microphone: Microphone }[data.mode];
  if (!(root.screen instanceof Kind)) {
    root.screen?.end();
    root.screen = new Kind(root, (name, value) => setTriggerValue(name, value));
  }
  root.screen.report = (name, value) => setTriggerValue(name, value);
  root.screen.answer(data);
  return () => { if (!root.isConnected) root.screen.end(); };
}
