// The graticule of the map (meridians and parallels), and the land areas behind the graticule.

/* global L */

const STEPS_DEG = [90, 60, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const MIN_GAP_PX = 60;
const NAME_PX = 24;
const COPIES_DEG = [-360, 0, 360];

/** Draws lines at round degrees, with labels at the edges. Draws them again when the view changes. */
export class Graticule {
  constructor(map) {
    this.map = map;
    this.layers = L.layerGroup().addTo(map);
    map.on("moveend resize", () => this.draw());
  }

  draw() {
    const { map, layers } = this;
    layers.clearLayers();
    const bounds = map.getBounds();
    const south = Math.max(-90, bounds.getSouth());
    const north = Math.min(90, bounds.getNorth());
    const perPixel = (bounds.getEast() - bounds.getWest()) / Math.max(1, map.getSize().x);
    const step = STEPS_DEG.filter((degrees) => degrees / perPixel >= MIN_GAP_PX).pop() ?? STEPS_DEG[0];
    const corner = map.containerPointToLatLng([0, map.getSize().y]);
    for (const lon of multiples(step, bounds.getWest(), bounds.getEast())) {
      this.line([[south, lon], [north, lon]]);
      this.name([Math.max(south, corner.lat), lon], named(wrapped(lon), step, "E", "W"), "meridian");
    }
    for (const lat of multiples(step, south, north)) {
      this.line([[lat, bounds.getWest()], [lat, bounds.getEast()]]);
      const y = map.latLngToContainerPoint([lat, bounds.getWest()]).y;
      // If a label would overlap the labels of the meridians, omit it.
      if (Math.abs(lat) === 90 || y > map.getSize().y - NAME_PX) continue;
      this.name([lat, bounds.getWest()], named(lat, step, "N", "S"), "parallel");
    }
  }

  line(points) {
    L.polyline(points, { className: "graticule", interactive: false, smoothFactor: 0 }).addTo(this.layers);
  }

  name(point, text, kind) {
    const label = document.createElement("span");
    label.textContent = text;
    const icon = L.divIcon({ className: `degree ${kind}`, html: label, iconSize: null });
    L.marker(point, { icon, interactive: false, keyboard: false }).addTo(this.layers);
  }
}

/**
 * Draw the sea and the land.
 * @param map the map
 * @param rings the outlines. Each one is an array: longitude, latitude, longitude, … The unit is a
 *   tenth of a degree.
 */
export function addLand(map, rings) {
  const sea = [[-90, -540], [90, 540]];
  for (const copy of COPIES_DEG) {
    const outlines = rings.map((ring) => {
      const points = [];
      for (let i = 0; i < ring.length; i += 2) points.push([ring[i + 1] / 10, ring[i] / 10 + copy]);
      return points;
    });
    // Use one polygon for all outlines. With the even-odd rule, a sea inside the land becomes a hole.
    L.polygon(outlines, { className: "land", interactive: false }).addTo(map).bringToBack();
  }
  L.rectangle(sea, { className: "sea", interactive: false }).addTo(map).bringToBack();
}

function* multiples(step, from, to) {
  for (let i = Math.ceil(from / step); i * step <= to; i += 1) yield i * step;
}

export const wrapped = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;

function named(degrees, step, positive, negative) {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const size = Math.abs(degrees).toFixed(digits);
  const side = Number(size) === 0 || Number(size) === 180 ? "" : degrees > 0 ? positive : negative;
  return `${size}°${side}`;
}
