// One screen in which everything is a function of one number: the sparsity under the thumb.
// The page gives `data` (see data.py) once per run and test set; on release the size goes back as the
// state "size". Without a server (the Report page's HTML file) it works the same.
const NS = "http://www.w3.org/2000/svg";
const KINDS = { "=": "", S: "sub", D: "del", I: "ins" };
const SWEEP_MS = 8000;

const el = (name, attributes = {}, ...children) => {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...children);
  return e;
};
const shape = (name, attributes, parent) => {
  const e = document.createElementNS(NS, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  parent?.append(e);
  return e;
};
const digits = (v) => (v >= 99.5 ? v.toFixed(0) : v >= 9.95 ? v.toFixed(1) : v.toFixed(2));
const mix = (a, b, t) => (a === null || b === null ? null : a + t * (b - a));

/** Edit steps from reference to hypothesis: [kind, word said, word in the hypothesis]. */
export function align(reference, hypothesis) {
  const r = reference.split(" ").filter(Boolean), h = hypothesis.split(" ").filter(Boolean);
  const cost = [...Array(r.length + 1)].map((_, i) => [...Array(h.length + 1)].map((_, j) => (i ? (j ? 0 : i) : j)));
  for (let i = 1; i <= r.length; i++)
    for (let j = 1; j <= h.length; j++)
      cost[i][j] = Math.min(cost[i - 1][j - 1] + (r[i - 1] !== h[j - 1]), cost[i - 1][j] + 1, cost[i][j - 1] + 1);
  const steps = [];
  for (let i = r.length, j = h.length; i || j;) {
    if (i && j && cost[i][j] === cost[i - 1][j - 1] + (r[i - 1] !== h[j - 1])) {
      i--, j--;
      steps.push([r[i] === h[j] ? "=" : "S", r[i], h[j]]);
    } else if (i && cost[i][j] === cost[i - 1][j] + 1) steps.push(["D", r[--i], ""]);
    else steps.push(["I", "", h[--j]]);
  }
  return steps.reverse();
}

/** What the screen shows at `percent`: a measured stop, or the straight line between its neighbors. */
export function at(stops, percent) {
  let i = stops.findIndex((s) => s.percent >= percent - 1e-9);
  if (i < 0) i = stops.length - 1;
  const b = stops[i], a = stops[Math.max(0, i - 1)];
  if (i === 0 || Math.abs(b.percent - percent) < 0.26) return { ...b, index: i, low: b.low, high: b.high, share: 1, a: b, b, measured: true };
  if (Math.abs(a.percent - percent) < 0.26) return { ...a, index: i - 1, share: 1, a, b: a, measured: true };
  const t = (percent - a.percent) / (b.percent - a.percent);
  const value = { percent, index: t < 0.5 ? i - 1 : i, share: t, a, b, measured: false };
  for (const key of ["wer", "low", "high", "mb", "file", "ms"]) value[key] = mix(a[key], b[key], t);
  return value;
}

class Screen {
  constructor(root, data, report) {
    this.root = root;
    this.report = report;
    this.unanswered = []; // sizes that were released and that the page has not given back yet
    this.load(data);
  }

  /** New data from the page. A late answer to an earlier release must not move the thumb again. */
  answer(data) {
    if (this.data.key !== data.key) return this.load(data);
    this.colors = null;
    const echo = this.unanswered.findLastIndex((percent) => Math.abs(percent - data.percent) < 0.3);
    const moved = this.data.percent !== data.percent;
    const other = ["mb", "wer"].some((name) => this.data.limits[name] !== data.limits[name]);
    const busy = this.corner.onpointermove || this.telling;
    this.data = { ...this.data, percent: data.percent, limits: busy ? this.data.limits : data.limits };
    if (other && !busy) this.limit(data.limits.mb, data.limits.wer);
    if (echo >= 0) this.unanswered.splice(0, echo + 1);
    else if (moved) { this.stop(); clearTimeout(this.settle); return this.set(data.percent); }
    this.draw();
  }

  load(data) {
    this.stop?.();
    clearTimeout(this.settle);
    this.unanswered.length = 0;
    if (!this.corner?.onpointermove && !this.telling) this.limits = data.limits;
    this.data = data;
    this.stops = data.stops;
    this.maps = Uint8Array.from(atob(data.maps), (c) => c.charCodeAt(0));
    this.aligned = new Map();
    this.percent = data.percent;
    this.sample = Math.min(this.sample ?? 0, Math.max(0, data.samples.length - 1));
    this.build();
    this.draw();
  }

  build() {
    const d = this.data;
    this.root.replaceChildren();
    this.slider = el("input", { type: "range", min: this.stops[0].percent, max: this.stops.at(-1).percent, step: "any", value: this.percent, "aria-label": "Sparsity: share of prunable weights set to zero" });
    this.slider.addEventListener("input", () => { this.stop(); this.set(+this.slider.value); });
    this.slider.addEventListener("change", () => this.release());
    this.slider.addEventListener("keydown", (e) => this.keys(e));
    const ticks = el("div", { class: "ticks", "aria-hidden": "true" });
    const span = this.stops.at(-1).percent - this.stops[0].percent || 1;
    const x = (p) => `${(100 * (p - this.stops[0].percent)) / span}%`;
    let last = -99;
    const room = (matchMedia("(max-width: 760px)").matches ? 0.24 : 0.1) * span;
    this.stops.forEach((s, i) => {
      const end = i === this.stops.length - 1;
      if (s.beaten && i && !end) return;
      const mark = el("i");
      mark.style.left = x(s.percent);
      ticks.append(mark);
      if (!end && (s.percent - last < room || this.stops.at(-1).percent - s.percent < 1.6 * room)) return;
      const name = i === 0 && s.percent < 1 ? "dense" : `${Math.round(s.percent)} %`;
      const label = el("span", { class: i === 0 ? "first" : end ? "last" : "" }, name + (end ? " sparsity" : ""));
      label.style.left = x(s.percent);
      ticks.append(label);
      last = s.percent;
    });
    this.presets = el("div", { class: "presets", role: "group", "aria-label": "Presets" });
    for (const p of d.presets) {
      const b = el("button", { type: "button", title: p.why, "data-percent": p.percent }, p.name);
      b.addEventListener("click", () => { this.stop(); this.set(p.percent); this.release(); });
      this.presets.append(b);
    }
    this.play = el("button", { type: "button", title: "Sweep from dense to tiny in eight seconds" }, "▶ Play");
    this.play.addEventListener("click", () => (this.frame ? this.stop() : this.sweep()));
    this.presets.append(this.play);
    const slider = el("div", { class: "slider" }, el("div", { class: "track" }, this.slider, ticks), this.presets);

    this.values = ["wer", "mb", "ms"].map(() => ({ big: el("b"), small: el("span") }));
    this.meaning = el("div", { class: "meaning" });
    const titles = ["Word error rate", "To download", d.msTitle];
    const numbers = el("div", { class: "numbers" }, ...this.values.map((v, i) => el("div", { class: "number" }, el("span", {}, titles[i]), v.big, v.small)), this.meaning);

    this.live = el("div", { class: "unseen", "aria-live": "polite" });
    this.root.append(slider, numbers, this.buildCurve(), this.buildNetwork(), this.buildWords(), this.live);
    this.layoutCurve();
  }

  keys(e) {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[e.key];
    const jump = { PageUp: 1, PageDown: -1 }[e.key];
    if (by) this.set(Math.round(this.percent) + by);
    else if (jump) {
      const ahead = this.stops.filter((s) => jump * (s.percent - this.percent) > 0.3);
      if (ahead.length) this.set(jump > 0 ? ahead[0].percent : ahead.at(-1).percent);
    } else if (e.key === "Home") this.set(this.stops[0].percent);
    else if (e.key === "End") this.set(this.stops.at(-1).percent);
    else return;
    e.preventDefault();
    this.stop();
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.release(0.3), 250);
  }

  set(percent) {
    const low = this.stops[0].percent, high = this.stops.at(-1).percent;
    this.percent = Math.min(high, Math.max(low, percent));
    if (!this.data.between) this.percent = this.stops.reduce((a, s) => (Math.abs(s.percent - percent) < Math.abs(a.percent - percent) ? s : a)).percent;
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => { this.pending = 0; this.draw(); });
  }

  release(reach = 1) {
    let p = at(this.stops, this.percent);
    const near = this.stops.reduce((a, s) => (Math.abs(s.percent - this.percent) < Math.abs(a.percent - this.percent) ? s : a));
    if (Math.abs(near.percent - this.percent) <= reach) { this.percent = near.percent; p = at(this.stops, near.percent); } // a stop catches the thumb
    else this.percent = Math.round(this.percent);
    this.draw();
    this.live.textContent = this.sentence(p);
    this.unanswered.push(this.percent);
    this.report("size", { percent: this.percent, name: p.measured ? p.name : "" });
  }

  sweep() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) { this.set(this.stops.at(-1).percent); this.release(); return; }
    const low = this.stops[0].percent, high = this.stops.at(-1).percent, start = performance.now();
    this.play.textContent = "■ Stop";
    const step = (now) => {
      const t = Math.min(1, (now - start) / SWEEP_MS);
      this.percent = low + t * (high - low);
      this.draw();
      if (t < 1) this.frame = requestAnimationFrame(step);
      else { this.stop(); this.release(); }
    };
    this.frame = requestAnimationFrame(step);
  }

  stop() {
    if (this.frame) cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.play) this.play.textContent = "▶ Play";
  }

  sentence(p) {
    const sign = p.measured ? "" : "about ";
    const ms = p.ms === null ? "" : `, ${p.predicted ? "about " : sign}${digits(p.ms)} milliseconds per chunk`;
    return `${Math.round(this.percent)} % sparsity: word error rate ${sign}${(100 * p.wer).toFixed(1)} %, ${sign}${digits(p.mb)} megabytes to download${ms}`;
  }

  draw() {
    this.draws = (this.draws ?? 0) + 1; // counted for the tests: one per frame at most
    const p = at(this.stops, this.percent);
    const sign = p.measured ? "" : "≈ ";
    if (document.activeElement !== this.slider || +this.slider.value !== this.percent) this.slider.value = this.percent;
    this.slider.setAttribute("aria-valuetext", this.sentence(p));
    const [wer, mb, ms] = this.values;
    wer.big.textContent = `${sign}${(100 * p.wer).toFixed(1)} %`;
    const per = p.per == null ? "" : ` · PER ${(100 * p.per).toFixed(1)} %`;
    wer.small.textContent = p.measured ? `95 % CI ${(100 * p.low).toFixed(1)}–${(100 * p.high).toFixed(1)}${per}` : "estimated, not measured";
    wer.small.title = per && "Phoneme error rate: the network alone, without lexicon and language model; MMI training leaves more to them";
    mb.big.textContent = `${sign}${digits(p.mb)} MB`;
    mb.small.textContent = `compressed; ${digits(p.file)} MB as a file`;
    ms.big.textContent = p.ms === null ? "not timed" : `${p.predicted ? "≈ " : sign}${digits(p.ms)} ms`;
    ms.small.textContent = ms.small.title = (p.predicted ? "predicted · " : "") + this.data.msNote;
    this.drawMeaning(p);
    for (const b of this.presets.querySelectorAll("[data-percent]")) b.setAttribute("aria-pressed", String(Math.abs(+b.dataset.percent - this.percent) < 0.3));
    const x = this.x(p.file), y = this.y(100 * p.wer);
    this.here.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    this.here.classList.toggle("between", !p.measured);
    this.drawNetwork(p);
    if (p.index !== this.shown || this.sample !== this.shownSample) this.drawWords(p);
  }

  drawMeaning(p) {
    const d = this.stops[0], parts = [];
    if (p.mb < 0.985 * d.mb) parts.push(`${(d.mb / p.mb).toFixed(1)} times smaller`);
    if (p.ms !== null && d.ms !== null && p.ms < 0.97 * d.ms) parts.push(`${(d.ms / p.ms).toFixed(1)} times faster`);
    const more = 100 * (p.wer - d.wer);
    if (p.percent > d.percent + 0.3) parts.push(Math.abs(more) < 0.5 ? "hardly another error" : `${Math.abs(more).toFixed(0)} ${more > 0 ? "more" : "fewer"} errors in 100 words`);
    const text = parts.length ? parts.join(", ") + "." : "The whole network, nothing pruned.";
    this.meaning.replaceChildren(text[0].toUpperCase() + text.slice(1), el("em", {}, `${Math.round(this.percent)} % of its prunable weights are zero.${p.measured && p.beaten ? " Another size beats this one." : ""}`));
  }

  // --- curve

  buildCurve() {
    this.svg = shape("svg", { role: "group", "aria-label": "Word error rate over megabytes of the file, one point per measured size" });
    const box = el("div", { class: "curve" }, el("h3", {}, "Errors against size ", el("small", {}, "· lower left is better · drag the green corner to your limits")), this.svg);
    this.fits = el("div", { class: "hover" });
    box.append(this.fits);
    this.resize?.disconnect();
    this.resize = new ResizeObserver(() => { this.layoutCurve(); this.layoutNetwork(); this.draw(); });
    this.resize.observe(box);
    return box;
  }

  layoutCurve() {
    const W = this.svg.clientWidth || 600, H = this.svg.clientHeight || 256, left = 44, right = 14, top = 8, bottom = 34;
    const points = [...this.stops, ...this.data.others.flatMap((o) => o.points)];
    const mbs = points.map((s) => s.file), high = Math.max(...points.map((s) => 100 * Math.min(s.high ?? s.wer, 1.2)));
    const low = Math.min(...points.map((s) => 100 * (s.low ?? s.wer)));
    const pad = Math.max(1, 0.06 * (high - low));
    const y0 = Math.max(0, low - pad), y1 = high + pad, x1 = Math.max(...mbs) * 1.04;
    this.x = (mb) => left + ((W - left - right) * mb) / x1;
    this.y = (wer) => H - bottom - ((H - top - bottom) * (Math.min(wer, y1) - y0)) / (y1 - y0 || 1);
    this.unx = (px) => ((px - left) * x1) / (W - left - right);
    this.uny = (py) => y0 + ((H - bottom - py) * (y1 - y0)) / (H - top - bottom);
    const step = (span, n) => { const raw = span / n, mag = 10 ** Math.floor(Math.log10(raw)); return [1, 2, 5, 10].find((k) => k * mag >= raw) * mag; };
    this.svg.replaceChildren();
    const dy = step(y1 - y0, 5), dx = step(x1, W < 420 ? 4 : 6);
    for (let v = Math.ceil(y0 / dy) * dy; v <= y1; v += dy) {
      shape("line", { class: "grid", x1: left, x2: W - right, y1: this.y(v), y2: this.y(v) }, this.svg);
      shape("text", { x: left - 6, y: this.y(v) + 4, "text-anchor": "end" }, this.svg).textContent = `${+v.toFixed(1)} %`;
    }
    for (let v = 0; v <= x1; v += dx) shape("text", { x: this.x(v), y: H - bottom + 16, "text-anchor": "middle" }, this.svg).textContent = +v.toFixed(2);
    shape("text", { x: W - right, y: H - 3, "text-anchor": "end" }, this.svg).textContent = "MB of the file";
    const front = this.stops.filter((s) => !s.beaten);
    const path = (rows, key) => rows.map((s, i) => `${i ? "L" : "M"}${this.x(s.file).toFixed(1)} ${this.y(100 * s[key]).toFixed(1)}`).join("");
    shape("path", { class: "band", d: path(front, "high") + path([...front].reverse(), "low").replace("M", "L") + "Z" }, this.svg);
    for (const o of this.data.others) {
      if (o.points.length > 1) shape("path", { class: "other", stroke: o.color, d: path(o.points, "wer") }, this.svg);
      for (const q of o.points) { const c = shape("path", { class: "other", stroke: o.color, d: MARKS[o.marker]?.(this.x(q.file), this.y(100 * q.wer)) ?? MARKS.diamond(this.x(q.file), this.y(100 * q.wer)) }, this.svg); shape("title", {}, c).textContent = `${o.title}, ${q.name}\n${(100 * q.wer).toFixed(1)} % WER, ${digits(q.file)} MB as a file`; }
    }
    shape("path", { class: "front", d: path(front, "wer") }, this.svg);
    for (const s of this.stops) {
      const c = shape("circle", { class: `stop${s.beaten ? " beaten" : ""}`, r: 4, cx: this.x(s.file), cy: this.y(100 * s.wer) }, this.svg);
      shape("title", {}, c).textContent = `${s.name}: ${Math.round(s.percent)} % sparsity\n${(100 * s.wer).toFixed(1)} % WER (95 % CI ${(100 * s.low).toFixed(1)}–${(100 * s.high).toFixed(1)})\n${digits(s.file)} MB as a file, ${digits(s.mb)} to download${s.beaten ? "\nanother size beats this one" : ""}`;
      c.addEventListener("click", () => { this.stop(); this.set(s.percent); this.release(); });
    }
    this.box = shape("rect", { class: "box" }, this.svg);
    this.here = shape("circle", { class: "here", r: 7.5 }, this.svg);
    this.corner = shape("circle", { class: "limit", r: 8, tabindex: 0, role: "slider", "aria-label": "Limits: most megabytes of the file and word errors" }, this.svg);
    this.limits ??= this.data.limits;
    this.corner.addEventListener("pointerdown", (e) => {
      this.corner.setPointerCapture(e.pointerId);
      const move = (m) => { const r = this.svg.getBoundingClientRect(); this.drag(this.unx(m.clientX - r.left), this.uny(m.clientY - r.top)); };
      this.corner.onpointermove = move;
      this.corner.onpointerup = () => { this.corner.onpointermove = null; this.tellLimits(); };
      e.preventDefault();
    });
    this.corner.addEventListener("keydown", (e) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
      if (!by) return;
      e.preventDefault();
      this.drag(this.limits.mb + by[0] * x1 * 0.02, this.limits.wer + by[1] * (y1 - y0) * 0.02);
      clearTimeout(this.telling);
      this.telling = setTimeout(() => this.tellLimits(), 250);
    });
    this.bounds = { x1, y0, y1, left, bottom: H - bottom };
    this.limit(this.limits.mb, this.limits.wer);
  }

  /** The corner moves within the picture. */
  drag(mb, wer) {
    const { x1, y0, y1 } = this.bounds;
    this.limit(Math.min(x1, Math.max(0.02 * x1, mb)), Math.min(y1, Math.max(y0, wer)));
  }

  /** The page's form takes the limits of the corner; its answer is then no news. */
  tellLimits() {
    this.telling = 0;
    this.data.limits = this.limits;
    this.report("limits", this.limits);
  }

  /** Limits may lie outside of the picture: the box then ends at its edge. */
  limit(mb, wer) {
    const { x1, y0, y1, left, bottom } = this.bounds;
    this.limits = { mb: +mb.toFixed(2), wer: +wer.toFixed(1) };
    const x = this.x(Math.min(x1, this.limits.mb)), y = this.y(Math.min(y1, Math.max(y0, this.limits.wer)));
    for (const [k, v] of Object.entries({ x: left, y, width: Math.max(0, x - left), height: Math.max(0, bottom - y) })) this.box.setAttribute(k, v);
    this.corner.setAttribute("cx", x);
    this.corner.setAttribute("cy", y);
    const fits = this.stops.filter((s) => s.file <= this.limits.mb && 100 * s.wer <= this.limits.wer).sort((a, b) => a.wer - b.wer);
    const most = `At most ${this.limits.mb} MB (file), ${this.limits.wer} % WER`;
    const best = fits[0];
    this.corner.setAttribute("aria-valuetext", most);
    this.fits.textContent = best ? `${most}: ${fits.length} of ${this.stops.length} sizes, best ${best.name} (${(100 * best.wer).toFixed(1)} %)` : `${most}: none of ${this.stops.length} sizes${this.nearest()}`;
    this.fits.title = this.fits.textContent; // where it is cut off
  }

  nearest() {
    const far = (s) => Math.max(s.file / this.limits.mb, (100 * s.wer) / Math.max(this.limits.wer, 0.1));
    const s = [...this.stops].sort((a, b) => far(a) - far(b))[0];
    return s ? `; nearest is ${s.name}: ${digits(s.file)} MB, ${(100 * s.wer).toFixed(1)} %` : "";
  }

  // --- network

  buildNetwork() {
    this.canvas = el("canvas", { role: "img", "aria-label": "All weight matrices: columns are blocks, rows are kinds; a dot is a group of weights and goes out when it is pruned" });
    this.hover = el("div", { class: "hover" }, "Each square is a weight matrix; its dots go out as weights are pruned.");
    const { blocks, kinds, side } = this.data.grid;
    this.tile = side + 3;
    this.image = new ImageData(blocks * this.tile, kinds.length * this.tile);
    this.small = document.createElement("canvas");
    this.small.width = this.image.width;
    this.small.height = this.image.height;
    this.canvas.addEventListener("pointermove", (e) => this.point(e));
    this.canvas.addEventListener("pointerleave", () => { this.hover.textContent = "Each square is a weight matrix; its dots go out as weights are pruned."; });
    return el("div", { class: "network" }, el("h3", {}, "What is left of the network ", el("small", {}, `· ${blocks} blocks from left to right`)), this.canvas, this.hover);
  }

  layoutNetwork() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    this.colors = null;
  }

  place() {
    const { width: W, height: H } = this.canvas, names = 118 * (window.devicePixelRatio || 1);
    return { left: names, top: 0, width: W - names, height: H };
  }

  palette() {
    if (this.colors) return this.colors;
    const style = getComputedStyle(this.root);
    const probe = (v) => { const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true }); c.fillStyle = v; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
    const accent = probe(style.getPropertyValue("--accent").trim()), ink = probe(style.color);
    const paper = probe(style.getPropertyValue("--st-background-color").trim() || "#ffffff");
    const tint = (c, share) => c.map((v, i) => (i < 3 ? Math.round(paper[i] + share * (v - paper[i])) : 255));
    const word = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
    this.colors = { kept: word(accent), gone: word(tint(accent, 0.13)), dropped: word(tint(ink, 0.12)), ink: style.color, font: style.fontFamily };
    return this.colors;
  }

  keepOf(m, p) {
    return p.share === 1 ? m.keep[p.index] : m.keep[this.stops.indexOf(p.a)] * (1 - p.share) + m.keep[this.stops.indexOf(p.b)] * p.share;
  }

  drawNetwork(p) {
    if (!this.canvas.width) return;
    const { kept, gone, dropped, ink } = this.palette(), { side, kinds, blocks } = this.data.grid;
    const pixels = new Uint32Array(this.image.data.buffer), W = this.image.width;
    this.data.matrices.forEach((m, i) => {
      const keep = this.keepOf(m, p), level = keep * 256, off = i * side * side;
      const none = keep <= 0;
      for (let r = 0; r < side; r++) {
        let to = (m.row * this.tile + r + 1) * W + m.block * this.tile + 1;
        for (let c = 0, from = off + r * side; c < side; c++) pixels[to++] = none ? dropped : this.maps[from++] < level ? kept : gone;
      }
    });
    this.small.getContext("2d").putImageData(this.image, 0, 0);
    const g = this.canvas.getContext("2d"), o = this.place(), ratio = window.devicePixelRatio || 1;
    g.clearRect(0, 0, this.canvas.width, this.canvas.height);
    g.imageSmoothingEnabled = o.width < this.small.width;
    g.drawImage(this.small, o.left, o.top, o.width, o.height);
    g.fillStyle = ink;
    g.font = `${12 * ratio}px ${this.colors.font}`;
    g.textBaseline = "middle";
    kinds.forEach((k, i) => g.fillText(k, 0, o.top + ((i + 0.5) * o.height) / kinds.length, o.left - 6 * ratio));
  }

  point(e) {
    const ratio = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect(), o = this.place(), { blocks, kinds } = this.data.grid;
    const block = Math.floor((((e.clientX - box.left) * ratio - o.left) / o.width) * blocks);
    const row = Math.floor((((e.clientY - box.top) * ratio - o.top) / o.height) * kinds.length);
    const m = this.data.matrices.find((q) => q.block === block && q.row === row);
    if (!m) return;
    const keep = this.keepOf(m, at(this.stops, this.percent));
    this.hover.textContent = `Block ${block + 1}, ${kinds[row]} (${m.rows} × ${m.columns}): ${keep <= 0 ? "dropped, never run" : `${(100 * keep).toFixed(0)} % of its weights kept`}`;
  }

  // --- words

  buildWords() {
    const d = this.data;
    if (!d.samples.length) return el("div", { class: "words" }, "No sentences have been transcribed at these sizes yet.");
    this.menu = el("select", { "aria-label": "Sentence" }, ...d.samples.map((s, i) => el("option", { value: i }, s.title)));
    this.menu.value = this.sample;
    this.menu.addEventListener("change", () => this.choose(+this.menu.value));
    const next = el("button", { type: "button" }, "Next sentence");
    next.addEventListener("click", () => this.choose((this.sample + 1) % d.samples.length));
    const fail = el("button", { type: "button", title: "A sentence that the next denser size still understands" }, "Where this size starts to fail");
    fail.addEventListener("click", () => this.failing());
    this.audio = el("audio", { controls: "", preload: "none" });
    this.said = el("div", { class: "said" });
    this.hyp = el("div", { class: "hyp" });
    const legend = el("span", { class: "legend" }, d.samplesNote ? `${d.samplesNote} · ` : "", el("span", { class: "sub" }, "substituted"), " ", el("span", { class: "del" }, "deleted"), " ", el("span", { class: "ins" }, "inserted"));
    this.shown = this.shownSample = -1;
    return el("div", { class: "words" }, el("div", { class: "bar" }, this.menu, next, fail, this.audio, legend), this.said, this.hyp);
  }

  choose(i) {
    this.sample = i;
    this.menu.value = i;
    this.drawWords(at(this.stops, this.percent));
  }

  errors(sample, stop) {
    const s = this.data.samples[sample], hyp = s.hypotheses[this.stops[stop].name];
    return hyp === undefined ? null : this.steps(s.text, hyp).filter(([k]) => k !== "=").length;
  }

  steps(text, hyp) {
    const key = `${text}\n${hyp}`;
    if (!this.aligned.has(key)) this.aligned.set(key, align(text, hyp));
    return this.aligned.get(key);
  }

  failing() {
    const here = at(this.stops, this.percent).index, n = this.data.samples.length;
    for (let k = 1; k <= n; k++) {
      const i = (this.sample + k) % n, now = this.errors(i, here), before = here ? this.errors(i, here - 1) : 0;
      if (now && before === 0) return this.choose(i);
    }
    for (let k = 1; k <= n; k++) if (this.errors((this.sample + k) % n, here)) return this.choose((this.sample + k) % n);
    this.live.textContent = "No sentence here fails at this size.";
  }

  drawWords(p) {
    if (!this.said) return;
    const s = this.data.samples[this.sample], stop = this.stops[p.index];
    if (this.shownSample !== this.sample) {
      if (s.audio) this.audio.src = s.audio;
      else this.audio.removeAttribute("src");
      this.audio.style.visibility = s.audio ? "visible" : "hidden";
      this.said.replaceChildren(el("label", {}, "Said"), s.text);
    }
    const hyp = s.hypotheses[stop.name];
    const words = hyp === undefined ? ["not transcribed at this size"] : this.steps(s.text, hyp).flatMap(([k, r, h]) => [k === "=" ? h : el("span", { class: KINDS[k], title: k === "S" ? `said: ${r}` : k === "D" ? "said, not in the hypothesis" : "not said" }, k === "D" ? r : h), " "]);
    this.hyp.replaceChildren(el("label", { title: this.data.samplesNote }, `At ${stop.percent < 1 ? "dense" : `${Math.round(stop.percent)} %`}`), ...(hyp === "" && !s.text ? ["no speech found"] : words));
    this.shown = p.index;
    this.shownSample = this.sample;
  }
}

const MARKS = {
  circle: (x, y) => `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0`,
  square: (x, y) => `M${x - 4} ${y - 4}h8v8h-8z`,
  diamond: (x, y) => `M${x} ${y - 5}l5 5l-5 5l-5 -5z`,
  "triangle-up": (x, y) => `M${x} ${y - 5}l5 9h-10z`,
  "triangle-down": (x, y) => `M${x} ${y + 5}l5 -9h-10z`,
  cross: (x, y) => `M${x - 4} ${y}h8M${x} ${y - 4}v8`,
  x: (x, y) => `M${x - 4} ${y - 4}l8 8M${x + 4} ${y - 4}l-8 8`,
};

export default function mount(component) {
  const { data, parentElement, setStateValue } = component;
  const root = parentElement.querySelector(".live");
  const report = (name, value) => setStateValue?.(name, value);
  const dark = () => {
    const c = getComputedStyle(root).getPropertyValue("--st-background-color").trim();
    const m = c.match(/^#(..)(..)(..)/);
    root.classList.toggle("dark", m ? m.slice(1).reduce((a, h) => a + parseInt(h, 16), 0) < 384 : matchMedia("(prefers-color-scheme: dark)").matches);
  };
  dark();
  if (!root.screen) root.screen = new Screen(root, data, report);
  else {
    root.screen.report = report;
    root.screen.answer(data);
  }
  return () => {};
}
