// The HTTP API: JSON in, JSON out, problems as typed errors.

import { signedOut } from "./session.ts";
import { toast } from "./toasts.ts";
import type { Problem } from "./types.ts";

export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.problem = problem;
  }

  /** What the server says of a field ("name", "payload.to"), or null. */
  field(name: string): string | null {
    return this.problem.errors?.find((error) => error.field === name)?.message ?? null;
  }
}

type Method = "GET" | "POST" | "DELETE";

export async function request<T>(
  method: Method,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new ApiError({ title: "The server does not answer. Is the network there?", status: 0 });
  }
  const text = await answer.text();
  if (answer.ok) return (text === "" ? undefined : JSON.parse(text)) as T;
  // The sign-in itself is answered 401 for a wrong token: that ends no session.
  if (answer.status === 401 && path !== "/api/session") signedOut();
  throw new ApiError(problemOf(answer, text));
}

function problemOf(answer: Response, text: string): Problem {
  try {
    const problem = JSON.parse(text) as Problem;
    if (typeof problem.title === "string") return problem;
  } catch {
    // A proxy's page, not ours.
  }
  return { title: `The server answered ${answer.status} ${answer.statusText}.`, status: answer.status };
}

export const get = <T>(path: string): Promise<T> => request<T>("GET", path);
export const post = <T>(path: string, body?: unknown): Promise<T> => request<T>("POST", path, body);
export const del = (path: string): Promise<void> => request<void>("DELETE", path);

/** Do *work* and tell how it ended. Returns whether it was done; errors do not escape. */
export async function attempt(work: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await work();
    if (done !== undefined) toast("done", done);
    return true;
  } catch (error) {
    toast("error", messageOf(error));
    return false;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** For where a problem is shown in its place instead of a toast. */
export function asProblem(error: unknown): Problem {
  return error instanceof ApiError ? error.problem : { title: messageOf(error), status: 0 };
}
