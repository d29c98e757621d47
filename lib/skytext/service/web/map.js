// The map: the footprints of the hits, and the rectangle of the area filter.

/* global L */

import { byId } from "./dom.js";
import { Graticule, addLand, wrapped } from "./graticule.js";

const SMALL_PX = 10;
const MAX_ZOOM = 18;
const WORLD = [[-60, -170], [75, 170]];
const BOX_DIGITS = 4;

export function loadLeaflet() {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("page/vendor/leaflet/leaflet.js", document.baseURI);
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("the map could not be loaded")));
    document.head.append(script);
  });
}

export class FootprintMap {
  /**
   * @param {{tilesUrl: string|null, attribution: string, onOpen: function(number),
   *   onPoint: function(number|null), onBox: function(number[])}} options
   */
  constructor(options) {
    this.options = options;
    this.hits = [];
    this.box = null;
    this.marked = null;
    this.map = L.map("map", {
      // Without map tiles, use degrees as coordinates, so that the map also shows the poles.
      crs: options.tilesUrl ? L.CRS.EPSG3857 : L.CRS.EPSG4326,
      attributionControl: Boolean(options.attribution),
      maxBounds: [[-95, -540], [95, 540]],
      maxBoundsViscosity: 1,
      maxZoom: MAX_ZOOM,
      minZoom: options.tilesUrl ? 0 : -1,
      zoomSnap: 0.25,
      zoomControl: false,
      zoomAnimation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    });
    if (options.attribution) {
      this.map.attributionControl.setPrefix(false).addAttribution(escaped(options.attribution));
    }
    L.control.zoom({ position: "topright" }).addTo(this.map);
    this.map.fitBounds(WORLD);
    if (options.tilesUrl) L.tileLayer(options.tilesUrl, { maxZoom: MAX_ZOOM }).addTo(this.map);
    else void this.loadLand();
    new Graticule(this.map).draw();
    this.layers = L.layerGroup().addTo(this.map);
    this.map.on("moveend", () => this.draw());
    this.isFitted = true;
    new ResizeObserver(() => this.resized()).observe(byId("map"));
  }

  /** Update the size. If the map was hidden when the hits arrived, fit it to the hits now. */
  resized() {
    this.map.invalidateSize({ animate: false });
    if (!this.isFitted) this.fit();
  }

  fit() {
    this.isFitted = this.map.getSize().x > 0;
    if (!this.isFitted) return;
    this.map.fitBounds(this.bounds() ?? WORLD, { padding: [24, 24], maxZoom: 12, animate: false });
  }

  async loadLand() {
    try {
      const answer = await fetch(new URL("page/land.json", document.baseURI));
      addLand(this.map, (await answer.json()).rings);
    } catch {
      byId("map-note").textContent = "The outlines of the land could not be loaded.";
    }
  }

  /** Show the footprints of the hits, and move the map so that all footprints are visible. */
  setHits(hits) {
    this.hits = hits;
    this.marked = null;
    const without = hits.filter((hit) => !hit.bbox).length;
    byId("map-note").textContent = without ? `${without} of ${hits.length} images have no location.` : "";
    if (hits.length) this.fit();
    this.draw();
  }

  /** Show the rectangle of the area filter. If `box` is null, show no rectangle. */
  setBox(box) {
    this.box = box;
    this.draw();
  }

  mark(rank) {
    this.marked = rank;
    this.layers.eachLayer((layer) => {
      layer.getElement()?.classList.toggle("marked", rank !== null && layer.options.rank === rank);
      if (layer.options.rank === rank) layer.bringToFront();
    });
  }

  bounds() {
    let all = null;
    for (const { bbox } of this.hits) {
      if (!bbox) continue;
      const box = unwrapped(bbox, all ? all.getCenter().lng : null);
      all = all ? all.extend(latLngs(box)) : L.latLngBounds(latLngs(box));
    }
    return all;
  }

  draw() {
    if (!this.layers) return;
    this.layers.clearLayers();
    const near = this.map.getCenter().lng;
    if (this.box) this.addBox(this.box, near);
    // Draw the best hit last, so that its footprint is on top of the other footprints.
    for (let rank = this.hits.length - 1; rank >= 0; rank -= 1) {
      const { bbox, one_sentence: sentence } = this.hits[rank];
      if (bbox) this.addFootprint(unwrapped(bbox, near), rank, sentence);
    }
    this.mark(this.marked);
  }

  addBox(box, near) {
    L.rectangle(latLngs(unwrapped(box, near)), { className: "area", interactive: false }).addTo(this.layers);
  }

  addFootprint(box, rank, sentence) {
    const corners = L.latLngBounds(latLngs(box));
    const a = this.map.latLngToLayerPoint(corners.getNorthWest());
    const b = this.map.latLngToLayerPoint(corners.getSouthEast());
    const small = Math.max(b.x - a.x, b.y - a.y) < SMALL_PX;
    const style = { className: "footprint", rank };
    const shape = small
      ? L.circleMarker(corners.getCenter(), { ...style, radius: 5 })
      : L.rectangle(corners, style);
    const label = document.createElement("span");
    label.textContent = `${rank + 1}. ${sentence}`;
    shape.bindTooltip(label, { direction: "top", className: "map-tip" });
    shape.on("click", () => this.options.onOpen(rank));
    shape.on("mouseover", () => this.options.onPoint(rank));
    shape.on("mouseout", () => this.options.onPoint(null));
    shape.addTo(this.layers);
  }

  /**
   * Let the user draw a rectangle. `options.onBox` is called with the rectangle. `onEnd` is called
   * at the end, also if the user cancels.
   */
  startDrawing(onEnd) {
    this.stopDrawing();
    const { map } = this;
    const container = map.getContainer();
    const ended = new AbortController();
    const options = { signal: ended.signal, capture: true };
    let from = null;
    let drawn = null;
    const stop = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
    const corner = (event) => map.mouseEventToLatLng(event);
    container.classList.add("drawing");
    map.dragging.disable();
    this.stopDrawing = () => {
      ended.abort();
      drawn?.remove();
      container.classList.remove("drawing");
      map.dragging.enable();
      this.stopDrawing = () => {};
      onEnd();
    };
    container.addEventListener("pointerdown", (event) => {
      if (event.target.closest(".leaflet-control")) return;
      stop(event);
      from = corner(event);
      container.setPointerCapture(event.pointerId);
      drawn = L.rectangle([from, from], { className: "area", interactive: false }).addTo(map);
    }, options);
    container.addEventListener("pointermove", (event) => {
      if (!from) return;
      stop(event);
      drawn.setBounds([from, corner(event)]);
    }, options);
    container.addEventListener("pointerup", (event) => {
      if (!from) return;
      stop(event);
      const box = boxOf(L.latLngBounds(from, corner(event)));
      this.stopDrawing();
      if (box) this.options.onBox(box);
    }, options);
    // Stop these events. Otherwise Leaflet would also handle them.
    for (const name of ["mousedown", "touchstart", "click"]) {
      container.addEventListener(name, (event) => {
        if (!event.target.closest(".leaflet-control")) stop(event);
      }, options);
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stopDrawing(), options);
  }

  stopDrawing() {}
}

/**
 * Return a rectangle as [west, south, east, north]. If west > east, the box crosses the antimeridian.
 * If the rectangle has no area, for example after a click, return null.
 */
function boxOf(bounds) {
  const width = bounds.getEast() - bounds.getWest();
  const round = (degrees) => Number(degrees.toFixed(BOX_DIGITS));
  const south = round(Math.max(-90, bounds.getSouth()));
  const north = round(Math.min(90, bounds.getNorth()));
  if (width <= 0 || south >= north) return null;
  if (width >= 360) return [-180, south, 180, north];
  return [round(wrapped(bounds.getWest())), south, round(wrapped(bounds.getEast())), north];
}

/** Return a box with east >= west. It is shifted by multiples of 360°, to be near a longitude. */
function unwrapped([west, south, east, north], near) {
  const right = east < west ? east + 360 : east;
  const turns = near === null ? 0 : Math.round((near - (west + right) / 2) / 360) * 360;
  return [west + turns, south, right + turns, north];
}

const latLngs = ([west, south, east, north]) => [[south, west], [north, east]];

/** Escape a text. This is necessary because Leaflet interprets the attribution as HTML. */
function escaped(text) {
  const holder = document.createElement("span");
  holder.textContent = text;
  return holder.innerHTML;
}
