// The form that asks for an instance: what is offered, what it costs, what is sent. Pure.

import type { BillingMode, Product } from "../types.ts";

export interface Draft {
  name: string;
  productName: string;
  templateId: string;
  gpuNum: string;
  rootfsSize: string;
  region: string;
  billingMode: BillingMode;
  webhookUrl: string;
}

export const NEW: Draft = {
  name: "",
  productName: "",
  templateId: "",
  gpuNum: "1",
  rootfsSize: "60",
  region: "",
  billingMode: "spot",
  webhookUrl: "",
};

/** All products of one name: the server chooses the cheapest that is to be had. */
export interface Offer {
  name: string;
  /** Whether one is to be had at a price of the billing mode. */
  available: boolean;
  /** Where it is, those where it is available first. */
  regions: { name: string; available: boolean; price: number | null }[];
  /** USD per GPU and hour, the cheapest available; null when none is. */
  price: number | null;
  gpuMemory: number | null;
  cpus: number;
  memory: number;
}

export function priceOf(product: Product, billing: BillingMode): number | null {
  return billing === "spot" ? product.spotPrice : product.onDemandPrice;
}

/** Available ones first, cheapest first. */
export function offersOf(products: readonly Product[], billing: BillingMode): Offer[] {
  const byName = new Map<string, Product[]>();
  for (const product of products) byName.set(product.name, [...(byName.get(product.name) ?? []), product]);
  const offers = [...byName].map(([name, group]): Offer => {
    const had = group.filter((one) => one.available && priceOf(one, billing) !== null);
    const names = [...new Set(group.flatMap((one) => one.regions))];
    const regions = names.map((region) => {
      const prices = had.filter((one) => one.regions.includes(region)).map((one) => priceOf(one, billing)!);
      return { name: region, available: prices.length > 0, price: prices.length > 0 ? Math.min(...prices) : null };
    });
    regions.sort((a, b) => Number(b.available) - Number(a.available) || a.name.localeCompare(b.name));
    const first = group[0]!;
    return {
      name,
      available: had.length > 0,
      regions,
      price: had.length > 0 ? Math.min(...had.map((one) => priceOf(one, billing)!)) : null,
      gpuMemory: first.gpuMemory,
      cpus: first.cpus,
      memory: first.memory,
    };
  });
  return offers.sort(
    (a, b) => Number(b.available) - Number(a.available) || (a.price ?? 0) - (b.price ?? 0) || a.name.localeCompare(b.name),
  );
}

/** Where it is cheapest: what is asked for unless somebody chooses otherwise. */
export function cheapestRegion(offer: Offer | undefined): string {
  const had = (offer?.regions ?? []).filter((region) => region.price !== null);
  return had.sort((a, b) => a.price! - b.price!)[0]?.name ?? "";
}

/**
 * USD an hour for all GPUs. *exact* is false when the region asked for has none and another is taken.
 */
export function hourly(offer: Offer | undefined, draft: Draft): { price: number; exact: boolean } | null {
  const gpus = integer(draft.gpuNum);
  if (offer === undefined || offer.price === null || gpus === null || gpus < 1) return null;
  const there = offer.regions.find((region) => region.name === draft.region)?.price ?? null;
  return { price: (there ?? offer.price) * gpus, exact: draft.region === "" || there !== null };
}

export type Faults = Partial<Record<keyof Draft, string>>;

/** What can be told without the server, whose word is the last. */
export function faultsOf(draft: Draft): Faults {
  const faults: Faults = {};
  if (draft.name.trim() === "") faults.name = "It needs a name.";
  else if (!/^[A-Za-z0-9_-]{1,100}$/.test(draft.name.trim())) faults.name = "Letters, digits, - and _ only, at most 100.";
  if (draft.productName === "") faults.productName = "Choose a GPU.";
  if (draft.templateId.trim() === "") faults.templateId = "It needs a template.";
  if (!within(draft.gpuNum, 1, 8)) faults.gpuNum = "1 to 8.";
  if (!within(draft.rootfsSize, 20, 1000)) faults.rootfsSize = "20 to 1,000 GB.";
  if (draft.webhookUrl.trim() !== "" && !/^https?:\/\//.test(draft.webhookUrl.trim()))
    faults.webhookUrl = "It begins with https:// or http://.";
  return faults;
}

/** What is sent: fields that are left empty have the server's default. */
export function bodyOf(draft: Draft): Record<string, unknown> {
  return {
    name: draft.name.trim(),
    productName: draft.productName,
    templateId: draft.templateId.trim(),
    gpuNum: integer(draft.gpuNum),
    rootfsSize: integer(draft.rootfsSize),
    billingMode: draft.billingMode,
    ...(draft.region === "" ? {} : { region: draft.region }),
    ...(draft.webhookUrl.trim() === "" ? {} : { webhookUrl: draft.webhookUrl.trim() }),
  };
}

function integer(text: string): number | null {
  return /^\s*\d{1,9}\s*$/.test(text) ? Number(text) : null;
}

function within(text: string, least: number, most: number): boolean {
  const value = integer(text);
  return value !== null && value >= least && value <= most;
}

/**
 * Keys for requests that must not be carried out twice: the same body again (a double click, a lost
 * answer) has the same key, another body another.
 */
export class Keys {
  #body = "";
  #key = "";
  readonly #make: () => string;

  constructor(make: () => string) {
    this.#make = make;
  }

  for(body: unknown): string {
    const text = JSON.stringify(body);
    if (text !== this.#body || this.#key === "") {
      this.#body = text;
      this.#key = this.#make();
    }
    return this.#key;
  }

  /** The request was carried out: the next one is another, even if it says the same. */
  done(): void {
    this.#key = "";
  }
}

/** 32 random hexadecimal digits. Not randomUUID, which plain http does not have. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
