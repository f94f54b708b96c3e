// Ask for an instance: what there is, where, and what it costs an hour.

import { useEffect, useRef, useState } from "preact/hooks";
import { asProblem, get, request } from "../api.ts";
import { Badge } from "../components/badge.tsx";
import { Button } from "../components/button.tsx";
import { Dialog } from "../components/dialog.tsx";
import { Input, Select } from "../components/field.tsx";
import { EmptyState, ProblemBox, Skeleton } from "../components/states.tsx";
import { Segments } from "../components/tabs.tsx";
import { plural, usd } from "../format.ts";
import { go } from "../router.ts";
import { toast } from "../toasts.ts";
import type { BillingMode, Catalogue, Problem } from "../types.ts";
import { bodyOf, cheapestRegion, faultsOf, hourly, Keys, NEW, offersOf, randomKey, type Draft, type Faults, type Offer } from "./form.ts";

// Outlives the dialog: who closes it after a lost answer and asks for the same again rents once.
const keys = new Keys(randomKey);

export function CreateDialog({ open, onClose }: { open: boolean; onClose: () => void }) {
  return (
    <Dialog open={open} onClose={onClose} title="Rent a GPU" wide>
      {open && <Form onClose={onClose} />}
    </Dialog>
  );
}

function Form({ onClose }: { onClose: () => void }) {
  const [catalogue, setCatalogue] = useState<Catalogue | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [draft, setDraft] = useState<Draft>(NEW);
  const [faults, setFaults] = useState<Faults>({});
  const [busy, setBusy] = useState(false);
  const form = useRef<HTMLFormElement>(null);

  async function load(): Promise<void> {
    setProblem(null);
    try {
      setCatalogue(await get<Catalogue>("/api/catalogue"));
    } catch (error) {
      setProblem(asProblem(error));
    }
  }
  useEffect(() => void load(), []);

  /** A field that is changed is right until the next attempt says otherwise. */
  function change(changes: Partial<Draft>): void {
    setDraft((old) => ({ ...old, ...changes }));
    setFaults((old) => Object.fromEntries(Object.entries(old).filter(([name]) => !(name in changes))));
  }

  function refuse(found: Faults): void {
    setFaults(found);
    // After the errors are in the document.
    requestAnimationFrame(() => form.current?.querySelector<HTMLElement>("[aria-invalid=true], [data-invalid] input")?.focus());
  }

  async function send(): Promise<void> {
    if (busy) return;
    const found = faultsOf(draft);
    if (Object.keys(found).length > 0) return refuse(found);
    const body = bodyOf(draft);
    setBusy(true);
    setProblem(null);
    try {
      const accepted = await request<{ instanceId: string }>("POST", "/api/instances", body, { "Idempotency-Key": keys.for(body) });
      keys.done();
      toast("done", `${body.name} is being created.`);
      onClose();
      go(`/instances/${encodeURIComponent(accepted.instanceId)}`);
    } catch (error) {
      const told = asProblem(error);
      const atFields = Object.fromEntries((told.errors ?? []).filter((one) => one.field in NEW).map((one) => [one.field, one.message]));
      refuse(atFields);
      // What is said at the fields is not said again above them.
      setProblem(Object.keys(atFields).length > 0 && Object.keys(atFields).length === told.errors?.length ? null : told);
    } finally {
      setBusy(false);
    }
  }

  if (catalogue === null)
    return problem === null ? (
      <Skeleton lines={6} label="Asking what can be rented" />
    ) : (
      <div class="stack">
        <ProblemBox problem={problem} />
        <div class="form-foot">
          <Button kind="primary" onClick={() => void load()}>
            Try again
          </Button>
        </div>
      </div>
    );
  const offers = offersOf(catalogue.products, draft.billingMode);
  const chosen = offers.find((offer) => offer.name === draft.productName);
  const regions = regionChoices(chosen);
  return (
    <form
      ref={form}
      class="stack"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <div class="billing">
        <Segments<BillingMode>
          label="Billing"
          value={draft.billingMode}
          onChange={(billingMode) => change({ billingMode })}
          choices={[
            { value: "spot", label: "Spot" },
            { value: "onDemand", label: "On demand" },
          ]}
        />
        <span class="muted small">{draft.billingMode === "spot" ? "Cheaper; the provider may take it back." : "Yours until you stop it."}</span>
      </div>
      <Offers offers={offers} draft={draft} error={faults.productName} onChoose={(productName) => change({ productName, region: cheapestRegion(offers.find((offer) => offer.name === productName)) })} />
      <div class="form-grid form-grid-3">
        <Input label="GPUs" type="number" min={1} max={8} value={draft.gpuNum} onChange={(gpuNum) => change({ gpuNum })} error={faults.gpuNum} />
        <Input label="Disk (GB)" type="number" min={20} max={1000} value={draft.rootfsSize} onChange={(rootfsSize) => change({ rootfsSize })} error={faults.rootfsSize} />
        <Select label="Preferred region" value={draft.region} onChange={(region) => change({ region })} options={regions} error={faults.region} />
      </div>
      <div class="form-grid">
        <Input label="Name" value={draft.name} onChange={(name) => change({ name })} maxLength={100} autoComplete="off" placeholder="trainer-1" hint="Letters, digits, - and _." error={faults.name} />
        <Input label="Template" value={draft.templateId} onChange={(templateId) => change({ templateId })} maxLength={200} autoComplete="off" placeholder="107672" hint="The provider's id: image, ports, start command." error={faults.templateId} />
      </div>
      <Input label="Webhook URL (optional)" type="url" value={draft.webhookUrl} onChange={(webhookUrl) => change({ webhookUrl })} maxLength={2048} autoComplete="off" placeholder="https://" hint="Is told when it is ready, has failed, was stopped." error={faults.webhookUrl} />
      {problem && <ProblemBox problem={problem} />}
      <div class="price-foot">
        <Price offer={chosen} draft={draft} />
        <Button kind="primary" type="submit" busy={busy}>
          Rent it
        </Button>
      </div>
    </form>
  );
}

function regionChoices(chosen: Offer | undefined) {
  if (chosen === undefined) return [{ value: "", label: "Choose a GPU first" }];
  return chosen.regions.map((region) => ({
    value: region.name,
    label: region.price === null ? `${region.name} (none free)` : `${region.name} · ${usd(region.price)}`,
  }));
}

function Offers({ offers, draft, error, onChoose }: { offers: Offer[]; draft: Draft; error: string | undefined; onChoose: (name: string) => void }) {
  if (offers.length === 0)
    return (
      <EmptyState icon="instances" title="The provider offers nothing at the moment">
        <p>Try again in a while.</p>
      </EmptyState>
    );
  return (
    <fieldset class="offers" data-invalid={error ? "" : undefined} aria-describedby={error ? "offers-error" : undefined}>
      <legend>
        GPU <span class="muted small">· prices and sizes are for each</span>
      </legend>
      <div class="offer-grid">
        {offers.map((offer) => (
          <label key={offer.name} class="offer">
            <input type="radio" name="product" value={offer.name} checked={draft.productName === offer.name} disabled={!offer.available} onChange={() => onChoose(offer.name)} />
            <span class="offer-body">
              <span class="strong wrap">{offer.name}</span>
              <span class="offer-price">
                {offer.price === null ? (
                  <Badge tone="off">none free</Badge>
                ) : (
                  <>
                    <strong>{usd(offer.price)}</strong> <span class="muted small">an hour</span>
                  </>
                )}
              </span>
              <span class="muted small">
                {offer.gpuMemory !== null && `${offer.gpuMemory} GB VRAM · `}
                {plural(offer.cpus, "CPU")} · {offer.memory} GB RAM
              </span>
              <span class="muted small wrap">{offer.regions.filter((region) => region.available || !offer.available).map((region) => region.name).join(", ")}</span>
            </span>
          </label>
        ))}
      </div>
      {error && (
        <p class="field-error" id="offers-error">
          {error}
        </p>
      )}
    </fieldset>
  );
}

const HOURS_A_DAY = 24;

function Price({ offer, draft }: { offer: Offer | undefined; draft: Draft }) {
  const cost = hourly(offer, draft);
  return (
    <p class="price" aria-live="polite">
      {cost === null ? (
        <span class="muted">Choose a GPU to see what it costs.</span>
      ) : (
        <>
          <strong>{usd(cost.price)}</strong> an hour{" "}
          <span class="muted small">
            · {usd(cost.price * HOURS_A_DAY)} a day
            {cost.exact ? "" : ` · none free in ${draft.region}: elsewhere, at the cheapest`}
          </span>
        </>
      )}
    </p>
  );
}
