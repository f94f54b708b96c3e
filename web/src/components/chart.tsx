import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { absolute } from "../format.ts";
import { seriesSentence } from "../sentences.ts";
import { palette } from "../theme.ts";

export interface Series {
  label: string;
  values: readonly (number | null)[];
  /** A colour token without its dashes: "accent-fill". */
  color: string;
  dash?: boolean;
  fill?: boolean;
}

interface ChartProps {
  title: string;
  /** What it shows, for the line below the title. */
  hint: string;
  /** Unix seconds. */
  at: readonly number[];
  series: Series[];
  format: (value: number) => string;
  /** Shorter, for the axis. */
  axis?: (value: number) => string;
  /** Values from milliseconds to minutes are told apart on a logarithmic scale only. */
  log?: boolean;
  /** The least upper bound of the scale, so that noise around zero stays small. */
  least?: number;
  height?: number;
}

const SYNC = "dashboard";
/** On a logarithmic scale there is no zero. */
const FLOOR = 0.001;

/** Lines over time. The legend shows the latest values, or those under the pointer. */
export function Chart({ title, hint, at, series, format, axis = format, log, least = 0, height = 168 }: ChartProps) {
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hovered, setHovered] = useState<number | null>(null);
  const shown = palette.value;
  const look = series.map((one) => `${one.label}|${one.color}|${one.dash}|${one.fill}`).join();

  const data = useMemo(
    () => [at, ...series.map(({ values }) => (log ? values.map((v) => (v === null ? null : Math.max(v, FLOOR))) : values))] as uPlot.AlignedData,
    [at, series, log],
  );
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const element = box.current!;
    const chart = new uPlot(options(element, { series, axis, log, least, height, onHover: setHovered }), latest.current, element);
    plot.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
    // The functions change with every rendering and mean the same.
  }, [shown, look, log, least, height]);

  useEffect(() => plot.current?.setData(data), [data]);

  const index = hovered !== null && hovered < at.length ? hovered : at.length - 1;
  return (
    <figure class="chart" aria-labelledby={id}>
      <figcaption>
        <h3 id={id}>{title}</h3>
        <span class="muted small">{hovered === null || at[index] === undefined ? hint : absolute(at[index] * 1000)}</span>
        <p class="visually-hidden">{series.map((one) => seriesSentence(one.label, one.values, format)).join(" ")}</p>
      </figcaption>
      <div class="chart-plot" ref={box} aria-hidden="true" style={{ height: `${height}px` }} />
      <ul class="chart-legend" aria-hidden="true">
        {series.map((one) => {
          const value = one.values[index];
          return (
            <li key={one.label}>
              <span class={`chart-mark${one.dash ? " chart-mark-dash" : ""}`} style={{ "--mark": `var(--${one.color})` }} />
              {one.label} <b>{value === null || value === undefined ? "–" : format(value)}</b>
            </li>
          );
        })}
      </ul>
    </figure>
  );
}

interface Look {
  series: Series[];
  axis: (value: number) => string;
  log: boolean | undefined;
  least: number;
  height: number;
  onHover: (index: number | null) => void;
}

function options(element: HTMLElement, { series, axis: words, log, least, height, onHover }: Look): uPlot.Options {
  const color = (token: string) => resolve(element, token);
  const font = `12px ${getComputedStyle(element).fontFamily}`;
  const axis = { stroke: color("muted"), font, ticks: { show: false }, gap: 6 };
  return {
    width: Math.max(element.clientWidth, 100),
    height,
    padding: [10, 20, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: SYNC }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true },
      y: log ? { distr: 3, log: 10, range: decades } : { range: (_, __, max) => [0, Math.max(max, least) * 1.08 || 1] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 26, space: 64, values: (_, splits, __, ___, step) => splits.map((s) => clock(s, step)) },
      {
        ...axis,
        grid: { stroke: color("line"), width: 1 },
        size: 58,
        space: 36,
        ...(log ? { splits: (_: uPlot, __: number, min: number, max: number) => powers(min, max), filter: (_: uPlot, splits: number[]) => splits } : {}),
        values: (_, splits) => splits.map((s) => (s === null ? "" : words(s))),
      },
    ],
    series: [
      {},
      ...series.map(
        (one): uPlot.Series => ({
          label: one.label,
          stroke: color(one.color),
          width: 1.75,
          points: { show: true, size: 5, width: 0, fill: color(one.color), filter: alone },
          ...(one.dash ? { dash: [5, 4] } : {}),
          ...(one.fill ? { fill: fade(color(one.color)) } : {}),
        }),
      ),
    ],
    hooks: { setCursor: [(chart) => onHover(chart.cursor.idx ?? null)] },
  };
}

/** A token as the scheme has it now: the canvas knows no CSS variables. */
function resolve(element: HTMLElement, token: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${token})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function fade(color: string): string {
  return color.replace(/^rgb\((.*)\)$/, (_, parts: string) => (parts.includes(",") ? `rgba(${parts}, 0.12)` : `rgb(${parts} / 0.12)`));
}

/** A value between two gaps has no line: it is a point. */
function alone(chart: uPlot, index: number): number[] {
  const values = chart.data[index] as (number | null)[];
  return values.flatMap((value, at) => (value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : []));
}

/** Whole powers of ten around the data, two at least. */
function decades(_: uPlot, min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0.01, 10];
  const low = Math.floor(Math.log10(Math.max(min, FLOOR)));
  const high = Math.ceil(Math.log10(Math.max(max, FLOOR)));
  return [10 ** low, 10 ** Math.max(high, low + 1)];
}

function powers(min: number, max: number): number[] {
  const found: number[] = [];
  for (let power = Math.round(Math.log10(min)); power <= Math.round(Math.log10(max)); power += 1) found.push(10 ** power);
  return found;
}

const DAY_S = 86_400;
const days = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric" });
const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

function clock(seconds: number, step: number): string {
  return (step >= DAY_S ? days : hours).format(seconds * 1000);
}
