// Fills the figures of a page from the specifications that the page carries; the drawing programs are beside this file.
(function () {
  "use strict";

  // A panel grid has no responsive width in Vega-Lite: choose the columns and the width of a panel from the room there is.
  function fit(spec, room) {
    if (!spec.facet) { spec.width = "container"; return spec; }
    var panel = spec.spec, band = JSON.stringify(panel.encoding || {}).indexOf('"type":"ordinal"') >= 0 || panel.mark;
    var columns = Math.max(1, Math.min(spec.columns || 1, Math.floor(room / (band ? 330 : 215))));
    var labels = band ? longest(spec) : 0;
    spec.columns = columns;
    panel.width = Math.max(120, Math.floor((room - (band ? 26 : 54) - labels) / columns) - 22);
    return spec;
  }

  // Room for the longest label of a discrete vertical axis, about six pixels a letter.
  function longest(spec) {
    var y = spec.spec.encoding && spec.spec.encoding.y;
    if (!y || y.type === "quantitative") return 0;
    var rows = (spec.data && spec.data.values) || (spec.datasets && spec.datasets[spec.data.name]) || [];
    return Math.min(150, 6 * rows.reduce(function (n, r) { return Math.max(n, String(r[y.field]).length); }, 0));
  }

  // A colour bar starts where the panel does, so a wide one would push a narrow figure out of its frame; words side by side would run into each other.
  function narrow(spec) {
    var encoding = (spec.spec || spec).encoding || {}, colour = encoding.color, across = encoding.x && encoding.x.axis;
    if (colour && colour.legend && colour.legend.gradientLength) { colour.legend.gradientLength = colour.legend.values ? 120 : 80; colour.legend.titleOrient = "top"; }
    if (across && across.labelOverlap === false && !across.labelAngle) { across.labelAngle = -40; across.labelFontSize = 11; }
  }

  // The built-in renderer marks `html`, Quarto `body`.
  function isDark() {
    return [document.documentElement, document.body].some(function (e) { return e.classList.contains("quarto-dark"); });
  }

  // The same picture on a dark ground, as `theme.dark` does it: colours are exchanged by a table, words and data stay.
  function turned(part) {
    var dark = window.bzDark;
    if (Array.isArray(part)) return part.map(turned);
    if (part && typeof part === "object") return Object.keys(part).reduce(function (out, k) {
      out[k] = dark.words.indexOf(k) >= 0 ? part[k] : turned(part[k]); return out;
    }, {});
    return typeof part === "string" && dark.colours[part] || part;
  }

  // The figure says its finding as a whole; a picture's parts, one by one, say nothing to whoever listens.
  function hush(view) {
    view.querySelectorAll("svg [role], svg [aria-label]").forEach(function (e) { ["role", "aria-label", "aria-roledescription"].forEach(function (a) { e.removeAttribute(a); }); });
    view.querySelectorAll("svg").forEach(function (e) { e.setAttribute("aria-hidden", "true"); e.removeAttribute("role"); });
    view.removeAttribute("aria-roledescription");
  }

  function draw(figure) {
    var view = figure.querySelector(".bz-view"), room = view.clientWidth, dark = window.bzDark && isDark() && !printing, state = room + (dark ? " dark" : "");
    // what is folded is drawn when it is opened
    if (!room || figure.dataset.room === state || figure.parentElement.closest("details:not([open])")) return;
    figure.dataset.room = state;
    var spec = fit(JSON.parse(figure.querySelector("script").textContent), room);
    if (dark) spec = turned(spec);
    spec.config = Object.assign({}, spec.config, { aria: false });   // the figure says its finding; marks one by one say nothing
    if (room < 480) { spec.config = spec.config || {}; spec.config.legend = Object.assign({}, spec.config.legend, { columns: 1 }); narrow(spec); }
    window.vegaEmbed(view, spec, { renderer: "svg", actions: false, mode: "vega-lite" }).then(function () { hush(view); }).catch(function (error) {
      view.textContent = "This picture could not be drawn: " + error.message;
    });
  }

  // The small pictures of heads choose the large one by keys too; the program that draws them listens to a pointer alone.
  function choosable(target) {
    target.querySelectorAll("h4").forEach(function (name) {
      var tile = name.parentElement;
      if (tile.getAttribute("role") === "button") return;
      tile.tabIndex = 0; tile.setAttribute("role", "button"); tile.setAttribute("aria-label", "show head " + name.textContent + " large"); tile.setAttribute("aria-pressed", "false");
      tile.addEventListener("click", function () {
        var on = tile.getAttribute("aria-pressed") !== "true";
        target.querySelectorAll("[aria-pressed]").forEach(function (t) { t.setAttribute("aria-pressed", String(on && t === tile)); });
      });
      tile.addEventListener("keydown", function (e) { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); tile.click(); } });
    });
  }

  function attend(box) {
    if (box.dataset.done) return;
    box.dataset.done = "1";
    var call = JSON.parse(box.querySelector("script").textContent), target = document.createElement("div");
    target.id = box.id + "-view";
    box.appendChild(target);
    new MutationObserver(function () {
      choosable(target);
      target.querySelectorAll("canvas:not([aria-label])").forEach(function (c) { c.setAttribute("aria-label", "attention of a head between the tokens"); });
    }).observe(target, { childList: true, subtree: true });
    window.CircuitsVis.render(target.id, window.CircuitsVis[call.element], call.props);
  }

  // Tables of pairs: a box that filters rows by any word in them.
  function filter(input) {
    var table = document.getElementById(input.dataset.table), count = document.getElementById(input.dataset.table + "-count");
    function run() {
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean), shown = 0;
      table.querySelectorAll("tbody tr").forEach(function (row) {
        var text = row.textContent.toLowerCase(), keep = words.every(function (w) { return text.indexOf(w) >= 0; });
        row.hidden = !keep; shown += keep;
      });
      if (count) count.textContent = shown + " shown";
    }
    input.addEventListener("input", run); run(); sortable(table);
  }

  // A head of a column sorts its rows, by numbers where there are some; again, the other way round.
  function sortable(table) {
    var body = table.tBodies[0];
    table.querySelectorAll("thead th").forEach(function (head, k) {
      var button = document.createElement("button");
      button.type = "button"; button.className = "bz-sort"; button.append.apply(button, Array.prototype.slice.call(head.childNodes)); head.appendChild(button);
      button.addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending", of = function (row) {
          var text = row.cells[k].textContent, n = parseFloat(text.replace("\u2212", "-").replace(/[^\d.-]*(-?[\d.]+).*/, "$1"));
          return isNaN(n) ? text : n;
        };
        table.querySelectorAll("th").forEach(function (h) { h.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.prototype.slice.call(body.rows).map(function (r, i) { return [of(r), i, r]; }).sort(function (a, b) {
          var one = typeof a[0] === typeof b[0] ? (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) : typeof a[0] === "number" ? -1 : 1;
          return (up ? one : -one) || a[1] - b[1];
        }).forEach(function (r) { body.appendChild(r[2]); });
      });
    });
  }

  // The explorer: the page carries all maps, the address the choice.
  function explore(box) {
    var held = JSON.parse(box.querySelector("script").textContent), at = {}, menus = {}, find = function (what) { return box.querySelector(what); };
    box.querySelectorAll("select").forEach(function (s) { menus[s.dataset.choice] = s; });
    new URLSearchParams(location.hash.slice(1)).forEach(function (v, k) { at[k] = v; });
    function options(menu, list, was) {
      menu.replaceChildren.apply(menu, list.map(function (p) { var o = new Option(p[1], p[0]); o.selected = p[0] === was; return o; }));
    }
    function pairs() {
      options(menus.pair, held.models[menus.model.selectedIndex].pairs.map(function (p) { return [p.id, p.name]; }), at.pair || menus.pair.value);
    }
    function chosen() { return held.models[menus.model.selectedIndex].pairs[menus.pair.selectedIndex]; }
    function cells(pair, direction) { return pair.maps[menus.site.value + " " + direction] || []; }
    function places() {   // tokens and layers that one may point at
      var pair = chosen(), map = cells(pair, "noising"), deep = map.reduce(function (n, l) { return Math.max(n, l ? l.length : 0); }, 0);
      var layers = []; for (var l = 0; l < deep; l++) layers.push([String(l), String(l)]);
      options(menus.token, pair.tokens.map(function (t, i) { return [String(i), t]; }), at.token || menus.token.value);
      options(menus.layer, layers, at.layer || menus.layer.value);
    }
    // LD follows from the effect and the LD of the two runs; a probability was read at some tokens only
    function ld(pair, v, direction) { var from = pair.ld[direction === "noising" ? 0 : 1], to = pair.ld[direction === "noising" ? 1 : 0]; return from + v / 1000 * (to - from); }
    function value(pair, direction, t, layer, metric) {
      if (metric === "p") { var p = (pair.p[menus.site.value + " " + direction] || [])[t]; return p ? p[layer] / 1000 : null; }
      var row = cells(pair, direction)[t], v = row ? row[layer] : null;
      return v === null || v === undefined ? null : metric === "ld" ? ld(pair, v, direction) : v / 1000;
    }
    function figure(side, direction, names) {
      var pair = chosen(), metric = menus.metric.value, rows = [], spec = JSON.parse(JSON.stringify(held.spec)), map = find('[data-side="' + side + '"]'), colour = spec.encoding.color;
      names.forEach(function (name, t) {
        for (var layer = 0; layer < menus.layer.options.length; layer++) {
          var v = value(pair, direction, t, layer, metric);
          if (v !== null) rows.push({ t: t, token: name, layer: layer, effect: v, picked: menus.view.value === "both" && t === menus.token.selectedIndex && layer === menus.layer.selectedIndex });
        }
      });
      rows.sort(function (a, b) { return a.picked - b.picked; });   // the chosen cell is drawn last, and its frame is whole
      spec.data = { values: rows }; delete spec.datasets; spec.width = "container"; spec.encoding.x.scale = { domain: names };
      colour.legend.title = menus.metric.selectedOptions[0].text;
      if (metric !== "effect") colour.legend.format = metric === "p" ? ".0%" : ".1f";
      if (metric === "ld") { var most = Math.max(Math.abs(pair.ld[0]), Math.abs(pair.ld[1])); colour.scale.domain = [-most, most]; }
      if (menus.view.value === "both") spec.encoding.x.axis.labelAngle = -40;
      if (window.bzDark && isDark() && !printing) spec = turned(spec);
      spec.config = Object.assign({}, spec.config, { aria: false });
      spec.description = pair.name + ": " + menus.site.selectedOptions[0].text + ", " + direction + ", " + menus.metric.selectedOptions[0].text;
      map.setAttribute("role", "img");
      map.parentElement.querySelector(".bz-sentence").textContent = menus.view.value === "both" ? side + " sentence, its state overwritten (" + direction + ")" : "";
      window.vegaEmbed(map, spec, { renderer: "svg", actions: false, mode: "vega-lite" }).then(function (drawn) {
        hush(map); map.setAttribute("aria-label", spec.description);   // the drawing program has put a name of its own
        drawn.view.addEventListener("click", function (e, item) {
          if (!item || !item.datum || item.datum.layer === undefined) return;
          menus.token.selectedIndex = item.datum.t; menus.layer.selectedIndex = item.datum.layer; menus.view.value = "both"; show(); keep();
        });
      });
    }
    // What each run says when the chosen state comes from the other one.
    function result() {
      var pair = chosen(), t = menus.token.selectedIndex, layer = menus.layer.selectedIndex, out = find(".bz-result"), table = document.createElement("table"), body = table.createTBody();
      var number = function (v) { return v === null ? "not measured" : v.toFixed(1).replace("-", "\u2212"); }, share = function (v) { return v === null ? "" : Math.round(100 * v).toString().replace("-", "\u2212") + " %"; };
      var line = function (head, v, more) { var row = body.insertRow(), th = document.createElement("th"); th.scope = "row"; th.textContent = head; row.appendChild(th); row.insertCell().textContent = number(v); row.insertCell().textContent = more || ""; };
      table.createCaption().textContent = "LD when the state of \u201c" + pair.tokens[t].replace(/^\d+ /, "") + "\u201d before layer " + layer + " comes from the other run";
      var head = table.createTHead().insertRow(); ["", "LD", "of the way"].forEach(function (w) { var th = document.createElement(w ? "th" : "td"); if (w) th.scope = "col"; th.textContent = w; head.appendChild(th); });
      line("clean run", pair.ld[0]);
      ["noising", "denoising"].forEach(function (d) { line((d === "noising" ? "clean" : "corrupt") + " run, patched", value(pair, d, t, layer, "ld"), share(value(pair, d, t, layer, "effect"))); });
      line("corrupt run", pair.ld[1]);
      out.replaceChildren(table);
    }
    function show() {
      var pair = chosen(), both = menus.view.value === "both", said = find(".bz-said");
      box.classList.toggle("bz-both", both);
      menus.direction.disabled = both; [menus.token, menus.layer].forEach(function (m) { m.disabled = !both; });
      said.textContent = "";
      if (pair.file) { var a = document.createElement("a"); a.href = pair.file + ".html"; a.textContent = "everything about this pair"; said.appendChild(a); }
      if (!both) return figure("clean", menus.direction.value, menus.direction.value === "noising" ? pair.tokens : pair.other);
      figure("clean", "noising", pair.tokens); figure("corrupt", "denoising", pair.other); result();
    }
    function keep() { history.replaceState(null, "", "#" + new URLSearchParams(Object.keys(menus).filter(function (k) { return !menus[k].disabled; }).map(function (k) { return [k, menus[k].value]; }))); }
    ["model", "site", "direction", "metric", "view"].forEach(function (k) {
      if (at[k] && Array.prototype.some.call(menus[k].options, function (o) { return o.value === at[k]; })) menus[k].value = at[k];
    });
    pairs(); places(); at = {}; show();
    Object.keys(menus).forEach(function (k) { menus[k].addEventListener("change", function () { if (k === "model") pairs(); places(); show(); keep(); }); });
    box.redraw = show;
  }

  function all() {
    if (window.vegaEmbed) document.querySelectorAll(".bz-chart").forEach(function (f) { if (f.querySelector(".bz-view")) draw(f); });
    document.querySelectorAll(".bz-explorer").forEach(function (e) { if (e.redraw) e.redraw(); });
    if (window.CircuitsVis) document.querySelectorAll(".bz-tokens").forEach(attend);
  }

  // What scrolls can be scrolled with keys; what does not is no stop for them.
  var regions = 0;
  function reach() {
    document.querySelectorAll(".bz-table, main pre, .bz-tokens").forEach(function (box) {
      var scrolls = box.scrollWidth > box.clientWidth + 1;
      box.classList.toggle("bz-wide", scrolls);
      if (!scrolls) { if (box.dataset.reach) { box.removeAttribute("tabindex"); box.removeAttribute("role"); box.removeAttribute("aria-label"); delete box.dataset.reach; } return; }
      if (box.dataset.reach) return;
      box.dataset.reach = "1"; box.tabIndex = 0; box.setAttribute("role", "region");
      box.setAttribute("aria-label", (box.tagName === "PRE" ? "code or output " : "table ") + ++regions + ", scrolls");
    });
  }

  // Paper is white, and nothing on it can be opened.
  var printing = false, closed = [];
  window.addEventListener("beforeprint", function () {
    printing = true;
    closed = Array.prototype.slice.call(document.querySelectorAll("main details:not([open])"));
    closed.forEach(function (d) { d.open = true; }); all();
  });
  window.addEventListener("afterprint", function () { printing = false; closed.forEach(function (d) { d.open = false; }); all(); });

  // An address may name something that is folded.
  function unfold() {
    var at = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!at) return;
    for (var d = at; d; d = d.parentElement) if (d.tagName === "DETAILS") d.open = true;
    all(); at.scrollIntoView();
  }

  // A term says its meaning when a finger touches it, and leads to the glossary at the second touch; Escape puts the meaning away.
  var told = null;
  function tell(e) {
    var term = e.target.closest && e.target.closest("a.bz-term");
    if (term && term !== told && matchMedia("(hover: none)").matches) { e.preventDefault(); term.focus(); told = term; } else told = null;
  }
  document.addEventListener("click", tell);
  document.addEventListener("keydown", function (e) { if (e.key === "Escape" && document.activeElement.matches(".bz-term")) document.activeElement.blur(); });

  // What the renderer leaves without a name of its own, or calls by the wrong one.
  function named() {
    document.querySelectorAll("nav").forEach(function (n) { if (!n.getAttribute("aria-label")) n.setAttribute("aria-label", n.id === "quarto-sidebar" ? "pages and chapters" : n.classList.contains("navbar") ? "main pages" : n.id || "pages"); });
    document.querySelectorAll('a[role="navigation"]').forEach(function (a) { a.setAttribute("role", "button"); });
  }

  function start() {
    named();
    document.querySelectorAll("input.bz-filter").forEach(filter);
    if (window.vegaEmbed) document.querySelectorAll(".bz-explorer").forEach(explore);
    all(); reach(); unfold();
    document.querySelectorAll("main details").forEach(function (d) { d.addEventListener("toggle", function () { all(); reach(); }); });
    window.addEventListener("hashchange", unfold);
    var later; window.addEventListener("resize", function () { clearTimeout(later); later = setTimeout(function () { all(); reach(); }, 150); });
    var light = new MutationObserver(all);   // the switch changes a class
    [document.documentElement, document.body].forEach(function (e) { light.observe(e, { attributes: true, attributeFilter: ["class"] }); });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start); else start();
})();
