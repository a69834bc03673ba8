"use strict";
// What makes the page of a report answer: figures save themselves, frames play and are picked.
// Without this, or where it fails, the page shows its pictures.

const byId = (id) => document.getElementById(id);

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- figures -------------------------------------------------------------------------------------

const panelsOf = (name) =>
  Bokeh.documents
    .flatMap((document) => [...document.roots()])
    .filter((root) => root.name?.split(":")[0] === name);

// Once all figures are drawn.
function whenDrawn(act) {
  if (Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle) act();
  else setTimeout(whenDrawn, 100, act);
}

// Fingers move the page, and zoom where that was chosen.
if (matchMedia("(pointer: coarse)").matches)
  whenDrawn(() => {
    for (const document of Bokeh.documents)
      for (const panel of document.roots()) panel.toolbar.active_drag = null;
  });

const curvesOf = (panel) =>
  panel.renderers.map((renderer) => [renderer, renderer.data_source]).filter(([, source]) => source);

function labelOf(panel, renderer) {
  const items = panel.legend?.flatMap((legend) => legend.items) ?? [];
  const found = items.find((item) => item.renderers.includes(renderer));
  return found?.label?.value ?? "";
}

function toCsv(name) {
  const lines = [];
  for (const panel of panelsOf(name))
    for (const [renderer, source] of curvesOf(panel)) {
      const columns = Object.keys(source.data).filter((key) => !["xs", "ys"].includes(key));
      const label = labelOf(panel, renderer);
      lines.push(`# ${panel.title?.text ?? ""} ${label}`.trim(), columns.join(","));
      const values = columns.map((key) => Array.from(source.data[key]));
      values[0]?.forEach((_, row) => lines.push(values.map((column) => column[row]).join(",")));
    }
  return lines.join("\n") + "\n";
}

async function saveFigure(figure, kind) {
  const name = figure.dataset.name;
  if (kind === "csv") save(new Blob([toCsv(name)], { type: "text/csv" }), `${name}.csv`);
  if (kind === "png") save(pictureOf(figure), `${name}.png`);
  if (kind === "svg")
    for (const [k, panel] of panelsOf(name).entries()) {
      const view = Bokeh.index.find_one(panel);
      save(await view.export("svg").to_blob(), `${name}-${k + 1}.svg`);
    }
}

function pictureOf(figure) {
  const bytes = atob(figure.querySelector("img").src.split(",")[1]);
  return new Blob([Uint8Array.from(bytes, (c) => c.charCodeAt(0))], { type: "image/png" });
}

document.addEventListener("click", (event) => {
  const kind = event.target.dataset?.save;
  if (kind) saveFigure(event.target.closest("figure"), kind);
});

byId("copy")?.addEventListener("click", () => navigator.clipboard?.writeText(byId("to-copy").innerText));

// --- frames --------------------------------------------------------------------------------------

const HYDROGEN_BONDS = "hydrogen bonds";
const SHELL_A = 3.5;
const MILLISECONDS_PER_FRAME = 250;

function wholeDataset(scene) {
  const dataset = scene.dataset;
  for (const structure of dataset.structures) {
    structure.size = scene.symbols.length;
    structure.names = scene.symbols;
  }
  dataset.environments = dataset.structures.flatMap((_, structure) =>
    scene.symbols.map((_, center) => ({ structure, center, cutoff: SHELL_A })),
  );
  return dataset;
}

async function openScene(scene) {
  const place = document.createElement("div");
  place.innerHTML = `<h3></h3><div class="stage"></div>`;
  place.firstChild.textContent = scene.title;
  byId("stages").append(place);
  const aside = () => document.createElement("div"); // chemiscope's own controls: ours move all
  const hidden = document.createElement("div");
  hidden.hidden = true;
  hidden.append(aside(), aside());
  place.append(hidden);
  const [meta, info] = hidden.children;
  const config = { meta, info, structure: place.querySelector(".stage") };
  return Chemiscope.StructureVisualizer.load(config, wholeDataset(scene));
}

const movie = {
  scenes: [],
  viewers: [],
  points: [], // sources of the figures with a point per frame
  frame: -1,
  shell: false,
  playing: false,

  get length() {
    return this.scenes[0].times.length;
  },

  show(frame) {
    if (frame === this.frame) return;
    this.frame = frame;
    const { times } = this.scenes[0];
    const ordered = new Set(times).size === times.length;
    byId("frame").value = frame;
    byId("time").textContent = ordered ? `${(times[frame] / 1000).toFixed(2)} ps` : `${frame + 1} of ${this.length}`;
    for (const viewer of this.viewers) viewer.select(this.indexes(viewer));
    for (const source of this.points) source.selected.indices = [frame];
  },

  // What chemiscope calls this frame: with an atom where its shell is shown.
  indexes({ atom, scene }) {
    const structure = this.frame;
    if (!this.shell) return { structure, environment: structure };
    return { structure, atom, environment: structure * scene.symbols.length + atom };
  },

  async showShell(shell) {
    this.shell = shell;
    const change = { environments: { activated: shell, cutoff: SHELL_A } };
    for (const viewer of this.viewers) {
      await viewer.structure.switchTarget(shell ? "atom" : "structure");
      viewer.applySettings({ structure: [change] });
      viewer.select(this.indexes(viewer));
    }
  },

  set(change) {
    for (const viewer of this.viewers) viewer.applySettings({ structure: [change(viewer)] });
  },

  // The next frame, and after a rest from drawing it, however long that took, the one after.
  play() {
    this.show((this.frame + 1) % this.length);
    requestAnimationFrame(() => {
      if (this.playing) setTimeout(() => this.playing && this.play(), MILLISECONDS_PER_FRAME);
    });
  },

  toggle() {
    this.playing = !this.playing;
    const { playing } = this;
    if (playing) this.play();
    byId("play").setAttribute("aria-pressed", playing);
    byId("play").textContent = playing ? "❚❚ Pause" : "▶ Play";
  },
};

function connectControls() {
  byId("frame").max = movie.length - 1;
  byId("frame").addEventListener("input", (event) => movie.show(Number(event.target.value)));
  byId("play").addEventListener("click", () => movie.toggle());
  const colours = ["element", ...new Set(movie.scenes.flatMap((scene) => Object.keys(scene.dataset.properties)))];
  for (const name of colours.filter((name) => name !== "frame")) byId("colour").add(new Option(name));
  byId("colour").addEventListener("change", ({ target }) =>
    movie.set((viewer) => {
      const values = viewer.scene.dataset.properties[target.value]?.values;
      if (!values) return { color: { property: "element" } };
      const most = [...values].sort((a, b) => a - b)[Math.floor(0.99 * values.length)];
      return { color: { property: target.value, min: 0, max: most, palette: "viridis" } };
    }),
  );
  byId("hbonds").addEventListener("change", ({ target }) =>
    movie.set(() => ({ shape: target.checked ? HYDROGEN_BONDS : "" })),
  );
  byId("shell").addEventListener("change", ({ target }) => movie.showShell(target.checked));
}

function connectPoints() {
  for (const name of ["hydrogen_bonds", "force_error"])
    for (const panel of panelsOf(name))
      for (const [, source] of curvesOf(panel)) {
        movie.points.push(source);
        source.selected.change.connect(() => {
          const [frame] = source.selected.indices;
          if (frame !== undefined) movie.show(frame);
        });
      }
}

async function openMovie() {
  movie.scenes = JSON.parse(byId("scenes").textContent);
  for (const scene of movie.scenes) {
    const viewer = await openScene(scene);
    Object.assign(viewer, { scene, atom: 0 });
    const select = viewer.structure.onselect;
    viewer.structure.onselect = (indexes) => {
      viewer.atom = indexes.atom ?? viewer.atom;
      select(indexes);
    };
    movie.viewers.push(viewer);
  }
  connectControls();
  whenDrawn(connectPoints);
  movie.show(0);
  document.documentElement.dataset.movie = "open";
}

if (byId("movie")) {
  const seen = new IntersectionObserver(
    ([entry]) => {
      if (!entry.isIntersecting) return;
      seen.disconnect();
      openMovie();
    },
    { rootMargin: "300px" },
  );
  seen.observe(byId("movie"));
}
