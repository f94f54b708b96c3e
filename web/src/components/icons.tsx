// Drawn here, 20 by 20, in the colour of the text; beside words, so hidden from screen readers.

const PATHS = {
  overview: "M3 11l4-4 4 3 6-6M3 17h14",
  jobs: "M4 5h12M4 10h12M4 15h8",
  queues: "M3 6h9M3 10h9M3 14h9M15 5v10m0 0l-2-2m2 2l2-2",
  instances: "M5 5h10v10H5zM8 8h4v4H8zM8 2v3m4-3v3M8 15v3m4-3v3M2 8h3m-3 4h3m10-4h3m-3 4h3",
  webhooks: "M11 4h5v5m0-5l-7 7M8 5H5a1 1 0 00-1 1v9a1 1 0 001 1h9a1 1 0 001-1v-3",
  audit: "M6 3h6l4 4v10H6zM12 3v4h4M8.5 11h5m-5 3h5",
  search: "M9 15A6 6 0 109 3a6 6 0 000 12zm4.5-1.5L17 17",
  close: "M5 5l10 10M15 5L5 15",
  menu: "M3 6h14M3 10h14M3 14h14",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  chevron: "M7 4l6 6-6 6",
  down: "M5 8l5 5 5-5",
  back: "M11 4l-6 6 6 6m-6-6h11",
  pause: "M7 4v12m6-12v12",
  play: "M6 4l10 6-10 6z",
  stop: "M5.500 5.500h9v9h-9z",
  retry: "M16 10a6 6 0 11-2-4.5M16 3v3.5h-3.5",
  cancel: "M10 17a7 7 0 100-14 7 7 0 000 14zM5.2 5.2l9.6 9.6",
  trash: "M4 6h12M8 6V4h4v2m-6 0l.7 11h6.6L14 6",
  plus: "M10 4v12m-6-6h12",
  check: "M4 10.5l4 4 8-9",
  warning: "M10 3l8 14H2zM10 8v4m0 2.5v.01",
  info: "M10 17a7 7 0 100-14 7 7 0 000 14zM10 9v5m0-7.5v.01",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  sun: "M10 13.5a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM10 2v1.5m0 13V18M2 10h1.5m13 0H18M4.3 4.3l1.1 1.1m9.2 9.2l1.1 1.1m0-11.4l-1.1 1.1m-9.2 9.2l-1.1 1.1",
  moon: "M16 12A7 7 0 018 4a6.5 6.5 0 108 8z",
  auto: "M10 17a7 7 0 100-14 7 7 0 000 14zM10 3v14M10 6l5-1m-5 4.5h7m-7 4l6 .5",
  user: "M10 10a3.2 3.2 0 100-6.4 3.2 3.2 0 000 6.4zM4 17c.6-3.2 3-5 6-5s5.400 1.800 6 5",
  exit: "M12 5V3.500H4v13h8V15M8 10h9m0 0l-3-3m3 3l-3 3",
  clock: "M10 17a7 7 0 100-14 7 7 0 000 14zM10 6v4l2.5 2",
  keyboard: "M2.500 5.500h15v9h-15zM5.500 8.500h.01m2.990 0h.01m2.990 0h.01m2.990 0h.01M7 11.500h6",
  filter: "M3 5h14l-5.500 6v5l-3-1.500V11z",
  external: "M11 4h5v5m0-5l-7 7M8 5H4.500v10.500H15V12",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
