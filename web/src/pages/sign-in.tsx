import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, messageOf, post } from "../api.ts";
import { Button } from "../components/button.tsx";
import { Input } from "../components/field.tsx";
import { Skeleton } from "../components/states.tsx";
import { Logo } from "../logo.tsx";
import { replace, route } from "../router.ts";
import { session } from "../session.ts";
import type { Session } from "../types.ts";

/** With a token, or by a link that signs in once: #/sign-in?code=… */
export function SignInPage() {
  const [token, setToken] = useState("");
  const [error, setError] = useState<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const [busy, setBusy] = useState<"token" | "code" | null>(null);
  const code = route.value.path === "/sign-in" ? route.value.query.code : undefined;

  async function signIn(token: string, by: "token" | "code"): Promise<void> {
    setBusy(by);
    setError(null);
    try {
      const signedIn = await post<Session>("/api/session", { token });
      if (route.value.path === "/sign-in") replace("/");
      session.value = signedIn;
    } catch (problem) {
      setError(explain(problem, by === "code"));
      setBusy(null);
    }
  }

  useEffect(() => {
    document.title = "Sign in · Durably";
    input.current?.focus();
  }, []);
  useEffect(() => {
    if (code === undefined) return;
    // It is worth a sign-in until it is used, so it stays neither in the address nor in the history.
    replace("/sign-in");
    void signIn(code, "code");
  }, [code]);

  return (
    <main class="alone">
      <form
        class="sign-in"
        onSubmit={(event) => {
          event.preventDefault();
          void signIn(token.trim(), "token");
        }}
      >
        <Logo />
        <h1>Sign in</h1>
        {busy === "code" || code !== undefined ? (
          <Skeleton lines={2} label="Signing in" />
        ) : (
          <>
            <Input
              label="Token"
              type="password"
              autoComplete="current-password"
              required
              inputRef={input}
              value={token}
              onChange={setToken}
              hint="One of those in DURABLY_TOKENS. Your role is that of the token."
              error={error}
            />
            <Button kind="primary" type="submit" busy={busy === "token"}>
              Sign in
            </Button>
            <p class="muted small">
              The link that the server prints when it starts signs in too, once.
            </p>
          </>
        )}
      </form>
    </main>
  );
}

function explain(error: unknown, byLink: boolean): string {
  if (!(error instanceof ApiError) || error.problem.status !== 401) return messageOf(error);
  return byLink ? "This link was used already or is too old. Sign in with a token." : "No such token is known here.";
}
