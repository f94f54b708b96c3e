// The frame of every page: navigation, health, connection, who is signed in.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { attempt, del } from "./api.ts";
import { now } from "./clock.ts";
import { Button } from "./components/button.tsx";
import { ConfirmHost } from "./components/confirm.tsx";
import { Icon } from "./components/icons.tsx";
import { Segments } from "./components/tabs.tsx";
import { ToastHost } from "./components/toast-host.tsx";
import { plural, shortCount } from "./format.ts";
import { HelpDialog } from "./help.tsx";
import { focusSearch, listen } from "./keys.ts";
import { connection, retryNow, useLive } from "./live.ts";
import { Logo } from "./logo.tsx";
import { isAt, places, type Place } from "./pages.ts";
import { go, href, route } from "./router.ts";
import { session } from "./session.ts";
import { choose, theme } from "./theme.ts";
import { exactTimes, toggleTimes } from "./times.ts";
import type { Shell as ShellData } from "./types.ts";

export function Shell({ children }: { children: ComponentChildren }) {
  const shell = useLive<ShellData>("shell").value.data;
  const [help, setHelp] = useState(false);
  const [drawer, setDrawer] = useState(false);
  const main = useRef<HTMLElement>(null);
  const { path } = route.value;
  const place = places().find((one) => isAt(one, path));

  useEffect(
    () =>
      listen({
        go: (key) => {
          const found = places().find((one) => one.key === key);
          if (found !== undefined) go(found.path);
          return found !== undefined;
        },
        help: () => setHelp(true),
        search: focusSearch,
        times: toggleTimes,
      }),
    [],
  );

  useEffect(() => {
    if (!drawer) return undefined;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key === "Escape") setDrawer(false);
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [drawer]);

  const first = useRef(true);
  useEffect(() => {
    setDrawer(false);
    scrollTo(0, 0);
    // Whoever reads with a screen reader hears that another page is shown.
    if (!first.current) main.current?.focus();
    first.current = false;
  }, [path]);

  useEffect(() => {
    const troubled = shell !== null && !shell.ready ? "● " : "";
    document.title = `${troubled}${place?.title ?? "Nothing here"} · Durably`;
  }, [place?.title, shell?.ready]);

  return (
    <div class={`shell${drawer ? " shell-open" : ""}`}>
      <a
        class="skip-link"
        href="#main"
        onClick={(event) => {
          event.preventDefault(); // the hash is the route
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="topbar">
        <Button kind="quiet" icon="menu" label={drawer ? "Close the menu" : "Open the menu"} aria-expanded={drawer} aria-controls="side" onClick={() => setDrawer(!drawer)} />
        <a class="logo-link" href={href("/")} aria-label="Durably, overview">
          <Logo />
        </a>
        <Health shell={shell} />
      </header>
      <aside class="side" id="side" aria-label="Durably">
        <a class="logo-link" href={href("/")} aria-label="Durably, overview">
          <Logo />
        </a>
        <Health shell={shell} />
        <nav aria-label="Pages">
          <ul class="nav">
            {places().map((one) => (
              <li key={one.path}>
                <a href={href(one.path)} aria-current={one === place ? "page" : undefined}>
                  <Icon name={one.icon} />
                  <span>{one.title}</span>
                  <NavCount place={one} shell={shell} />
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div class="side-foot">
          <Segments
            label="Theme"
            value={theme.value}
            onChange={choose}
            choices={[
              { value: "auto", label: <><Icon name="auto" size={14} /> Auto</> },
              { value: "light", label: <><Icon name="sun" size={14} /> Light</> },
              { value: "dark", label: <><Icon name="moon" size={14} /> Dark</> },
            ]}
          />
          <Button kind="quiet" small icon="clock" aria-pressed={exactTimes.value} onClick={toggleTimes}>
            Dates and times
          </Button>
          <Button kind="quiet" small icon="keyboard" onClick={() => setHelp(true)}>
            Keyboard shortcuts
          </Button>
          <SignedIn />
        </div>
      </aside>
      <button type="button" class="scrim" aria-label="Close the menu" tabIndex={-1} onClick={() => setDrawer(false)} />
      <main id="main" ref={main} tabIndex={-1}>
        <ConnectionBanner />
        {children}
      </main>
      <HelpDialog open={help} onClose={() => setHelp(false)} />
      <ConfirmHost />
      <ToastHost />
    </div>
  );
}

function Health({ shell }: { shell: ShellData | null }) {
  const lost = connection.value.kind === "lost";
  const known = shell !== null && !lost;
  const tone = !known ? "off" : shell.ready ? "good" : "bad";
  const text = lost ? "Not connected" : shell === null ? "Connecting" : shell.ready ? "Healthy" : "Not healthy";
  return (
    <div class="health">
      <p class={`health-line tone-${tone}`}>
        <span class="dot" aria-hidden="true" />
        {text}
      </p>
      {known && !shell.ready && (
        <ul class="health-reasons">
          {shell.reasons.map((reason) => (
            <li key={reason}>{reason}</li>
          ))}
        </ul>
      )}
    </div>
  );
}

function NavCount({ place, shell }: { place: Place; shell: ShellData | null }) {
  if (shell === null) return null;
  const [value, text, tone] =
    place.path === "/"
      ? [shell.warnings, plural(shell.warnings, "warning"), "warn"]
      : place.path === "/jobs"
        ? [shell.failedJobs, plural(shell.failedJobs, "failed job"), "bad"]
        : place.path === "/queues"
          ? [shell.pausedQueues.length, plural(shell.pausedQueues.length, "paused queue"), "warn"]
          : [0, "", ""];
  if (value === 0) return null;
  return (
    <span class={`nav-count tone-${tone}`} title={text}>
      <span aria-hidden="true">{shortCount(value)}</span>
      <span class="visually-hidden">, {text}</span>
    </span>
  );
}

function ConnectionBanner() {
  const state = connection.value;
  const mended = useMended(state.kind);
  return (
    <div class="connection" role="status">
      {state.kind === "lost" && (
        <p class="banner banner-warn">
          <Icon name="warning" />
          <span>
            Connection lost, <Countdown until={state.retryAt} /> What you see is as it was.
          </span>
          <Button small onClick={retryNow}>
            Try now
          </Button>
        </p>
      )}
      {state.kind === "connected" && mended && (
        <p class="banner banner-good">
          <Icon name="check" />
          <span>Connected again. What you see is up to date.</span>
        </p>
      )}
    </div>
  );
}

/** The seconds are for the eye: a screen reader is not told each of them. */
function Countdown({ until }: { until: number }) {
  void now.value; // once a second
  const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
  return (
    <>
      trying again<span aria-hidden="true">{seconds === 0 ? " now" : ` in ${seconds} s`}</span>…
    </>
  );
}

const MENDED_MS = 4_000;

function useMended(kind: string): boolean {
  const [mended, setMended] = useState(false);
  const wasLost = useRef(false);
  useEffect(() => {
    if (kind === "lost") wasLost.current = true;
    if (kind !== "connected" || !wasLost.current) return undefined;
    wasLost.current = false;
    setMended(true);
    const timer = setTimeout(() => setMended(false), MENDED_MS);
    return () => clearTimeout(timer);
  }, [kind]);
  return mended;
}

function SignedIn() {
  const held = session.value;
  if (!held) return null;
  async function leave(): Promise<void> {
    if (await attempt(() => del("/api/session"))) session.value = null;
  }
  return (
    <div class="signed-in">
      <Icon name="user" />
      <div>
        {held.local ? (
          <>
            <p class="strong">Local</p>
            <p class="muted small">No token is configured: only this machine gets in.</p>
          </>
        ) : (
          <>
            <p class="strong ellipsis" title={held.name}>
              {held.name}
            </p>
            <p class="muted small">{held.role}</p>
          </>
        )}
        <p class="muted small">Durably {held.version}</p>
      </div>
      {!held.local && <Button kind="quiet" icon="exit" label="Sign out" onClick={() => void leave()} />}
    </div>
  );
}

