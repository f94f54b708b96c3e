// Numbers, durations and times in words. Pure: the moment is an argument.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** 1240 -> "1,240". */
export function count(value: number): string {
  return whole.format(value);
}

/** Small numbers with a digit or two after the point: "0.25", "7.5", "42", "1,240". */
export function decimal(value: number): string {
  if (value >= 100) return count(value);
  return trim(value, value < 1 ? 2 : 1);
}

/** 1240000 -> "1.2M", below ten thousand in full. */
export function shortCount(value: number): string {
  return Math.abs(value) < 10_000 ? whole.format(value) : compact.format(value);
}

/** "1 job", "1,240 jobs". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Seconds in the two largest units: "0 s", "420 ms", "3.2 s", "2 min 5 s", "3 h 12 min", "4 d 2 h". */
export function duration(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s === 0) return "0 s";
  if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
  if (s < 0.01) return `${trim(s * 1000, 1)} ms`;
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${trim(s, 1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  if (s < 3599.5) return two(Math.round(s), 60, "min", 1, "s");
  if (s < 86_370) return two(Math.round(s / 60), 60, "h", 1, "min");
  return two(Math.round(s / 3600), 24, "d", 1, "h");
}

function two(value: number, size: number, large: string, step: number, small: string): string {
  const rest = (value % size) * step;
  const head = `${count(Math.floor(value / size))} ${large}`;
  return rest === 0 ? head : `${head} ${rest} ${small}`;
}

function trim(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}

/** In one unit, seconds up to 100 of them: "40 ms", "1.4 s", "95 s", "3 min". For axes and narrow places. */
export function brief(seconds: number): string {
  if (seconds < 59.5) return duration(seconds);
  return seconds < 100.5 ? `${Math.round(seconds)} s` : roughly(seconds);
}

/** One unit only: "42 s", "3 min", "5 h", "12 d". */
export function roughly(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 59.5) return `${Math.round(s)} s`;
  if (s < 3570) return `${Math.round(s / 60)} min`;
  if (s < 84_600) return `${Math.round(s / 3600)} h`;
  return `${count(Math.round(s / 86_400))} d`;
}

/** "just now", "42 s ago", "in 3 min". *now* and *then* are milliseconds. */
export function relative(then: number, now: number): string {
  const seconds = (now - then) / 1000;
  if (Math.abs(seconds) < 1.5) return seconds < 0 ? "now" : "just now";
  return seconds > 0 ? `${roughly(seconds)} ago` : `in ${roughly(-seconds)}`;
}

/** Local date and time with the offset of the zone: "2026-11-26 14:03:07 UTC+1". */
export function absolute(then: number): string {
  const at = new Date(then);
  const date = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${date} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())} ${zone(at)}`;
}

function zone(at: Date): string {
  const minutes = -at.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const rest = Math.abs(minutes) % 60;
  const hours = Math.floor(Math.abs(minutes) / 60);
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest === 0 ? "" : `:${pad(rest)}`}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

/** Per second, or per minute or hour where that gives a number one can hold: "12.4/s", "3/min". */
export function rate(perSecond: number): string {
  if (perSecond === 0) return "0/s";
  if (perSecond >= 100) return `${count(perSecond)}/s`;
  if (perSecond >= 1) return `${trim(perSecond, 1)}/s`;
  if (perSecond * 60 >= 1) return `${trim(perSecond * 60, 1)}/min`;
  return `${trim(perSecond * 3600, 1)}/h`;
}

/** A fraction: 0.063 -> "6.3 %", 0.42 -> "42 %". */
export function percent(fraction: number): string {
  const value = fraction * 100;
  if (value === 0) return "0 %";
  if (value < 0.1) return "< 0.1 %";
  return `${value < 9.95 ? trim(value, 1) : Math.round(value)} %`;
}

/** 222298112 -> "212 MB" (of 1,048,576). */
export function bytes(value: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let rest = value;
  let unit = 0;
  while (rest >= 1024 && unit < units.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${rest < 10 && unit > 0 ? trim(rest, 1) : Math.round(rest)} ${units[unit]}`;
}

/** USD: "$0.35", "$12.40"; small amounts with more digits. */
export function usd(value: number): string {
  return `$${value.toFixed(value !== 0 && value < 0.1 ? 4 : 2)}`;
}

/** "health_checking" -> "health checking". */
export function words(name: string): string {
  return name.replaceAll("_", " ").replace(/([a-z])([A-Z])/g, (_, a: string, b: string) => `${a} ${b.toLowerCase()}`);
}

/** "a", "a and b", "a, b and c". */
export function listed(parts: readonly string[]): string {
  if (parts.length < 2) return parts.join("");
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** "its queue is paused" -> "Its queue is paused". */
export function capital(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
