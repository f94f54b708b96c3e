// What the server sends. JSON is camelCase, times are RFC 3339 strings, durations are seconds.

export type Role = "viewer" | "operator" | "admin";

export interface Session {
  name: string;
  role: Role;
  /** No token is configured: nobody signs in or out. */
  local: boolean;
  version: string;
}

/** RFC 9457 problem details. */
export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail?: string;
  code?: string;
  requestId?: string;
  errors?: { field: string; message: string }[];
}

export interface Shell {
  ready: boolean;
  reasons: string[];
  failedJobs: number;
  pausedQueues: string[];
  warnings: number;
}

export type WarningKind =
  | "unhandled"
  | "paused"
  | "deadWorker"
  | "late"
  | "errors"
  | "noWorker"
  | "full"
  | "targets";

export interface Warning {
  kind: WarningKind;
  text: string;
  /** A hash route such as #/jobs?type=x. */
  link: string;
}

export interface Counts {
  scheduled: number;
  ready: number;
  processing: number;
  completed: number;
  failed: number;
  cancelled: number;
}

export interface DepthRow extends Counts {
  queue: string;
  type: string;
  handled: boolean;
  paused: boolean;
  oldestReadyAt: string | null;
}

/** Of the last 300 s. */
export interface Rates {
  throughput: number;
  arrival: number;
  errorRate: number;
  waitP50: number;
  waitP95: number;
  waitP99: number;
  runP50: number;
  runP95: number;
  runP99: number;
}

export interface Capacity {
  slots: number;
  busy: number;
  serviceRate: number;
  arrivalRate: number;
  utilisation: number | null;
  slotsNeeded: number | null;
  /** Null: never at this pace. */
  timeToDrain: number | null;
  backlog: number;
}

export interface WorkerRow {
  id: number;
  host: string;
  pid: number;
  alive: boolean;
  queues: string[];
  types: string[];
  limits: Record<string, number>;
  slots: number;
  held: number;
  memoryBytes: number | null;
  renewedAgo: number | null;
  lease: number;
}

export interface Overview {
  health: { ready: boolean; reasons: string[] };
  warnings: Warning[];
  counts: Counts & { total: number };
  depth: DepthRow[];
  oldestReadyAt: string | null;
  rates: Rates;
  capacity: Capacity;
  workers: WorkerRow[];
}

export type Range = "live" | "hour" | "day" | "week";

export interface History {
  range: Range;
  step: number;
  /** Unix seconds, ascending, evenly spaced. */
  at: number[];
  finished: number[];
  /** Failed attempts. */
  failed: number[];
  attempts: number[];
  waitP50: (number | null)[];
  waitP95: (number | null)[];
  waitP99: (number | null)[];
  runP50: (number | null)[];
  runP95: (number | null)[];
  runP99: (number | null)[];
  /** Null: nobody looked then. */
  ready: (number | null)[];
  scheduled: (number | null)[];
  processing: (number | null)[];
}

export type Status = "pending" | "processing" | "completed" | "failed" | "cancelled";
export type Priority = 1 | 2 | 3 | 4;

export interface Progress {
  fraction: number;
  message: string;
}

export interface JobRow {
  id: string;
  type: string;
  queue: string;
  status: Status;
  scheduled: boolean;
  priority: Priority;
  attempts: number;
  maxAttempts: number;
  createdAt: string;
  dueAt: string | null;
  processedAt: string | null;
  completedAt: string | null;
  /** Shortened. */
  error: string | null;
  progress: Progress | null;
  tags: string[];
  uniqueKey: string | null;
  crashes: number;
  worker: string | null;
  cancelled: boolean;
  /** The start of the payload as JSON. */
  preview: string;
}

export interface JobList {
  jobs: JobRow[];
  nextCursor?: string;
  /** From maintained counts; null with tag, text, since or until. */
  total: number | null;
  scanned: number;
}

export interface AttemptError {
  attempt: number;
  at: string;
  kind: string;
  message: string;
  traceback: string;
}

/** All fields of a job, payload and result redacted. */
export interface JobView {
  id: string;
  type: string;
  payload: unknown;
  status: Status;
  priority: Priority;
  attempts: number;
  maxAttempts: number;
  createdAt: string;
  processedAt: string | null;
  completedAt: string | null;
  nextRetryAt: string | null;
  error: string | null;
  queue: string;
  runAt: string | null;
  result: unknown;
  progress: Progress | null;
  errors: AttemptError[];
  tags: string[];
  uniqueKey: string | null;
  crashes: number;
  worker: string | null;
  cancelled: boolean;
  scheduled: boolean;
  parent?: string | null;
}

export interface Attempt {
  number: number;
  /** From when it waited. */
  readyAt: string;
  startedAt: string | null;
  endedAt: string | null;
  outcome: "running" | "completed" | "cancelled" | "error" | "timeout" | "crash";
  message: string | null;
  traceback: string;
}

export interface JobDetail {
  job: JobView;
  explanation: string;
  attempts: Attempt[];
  steps: { name: string; result: unknown }[];
  parent: JobRow | null;
  children: JobRow[];
  instanceId: string | null;
}

export type BulkAction = "retry" | "cancel" | "delete";

export interface JobFilter {
  status?: string;
  type?: string;
  queue?: string;
  tag?: string;
  text?: string;
  since?: string;
  until?: string;
}

export interface BulkPreview {
  matching: number;
  /** False: at least so many. */
  exact: boolean;
  statuses: string[];
}

export interface BulkBatch {
  changed: number;
  refused: number;
  nextCursor?: string;
}

export interface QueueTypeRow {
  type: string;
  handled: boolean;
  /** At a time and process. */
  limit: number | null;
  ready: number;
  processing: number;
}

export interface QueueRow extends Counts {
  name: string;
  paused: boolean;
  oldestReadyAt: string | null;
  workers: number;
  slots: number;
  types: QueueTypeRow[];
}

export interface QueueList {
  queues: QueueRow[];
}

export type InstanceStatus =
  | "creating"
  | "starting"
  | "running"
  | "health_checking"
  | "ready"
  | "stopping"
  | "stopped"
  | "failed"
  | "terminated";

export type Operation = "create" | "start" | "stop" | "delete" | "cleanup_delete" | "cleanup_stop";
export type BillingMode = "spot" | "onDemand";

export interface PortMapping {
  port: number;
  endpoint: string;
  type: string;
}

export interface InstanceView {
  id: string;
  instanceId: string;
  name: string;
  productName: string;
  templateId: string;
  gpuNum: number;
  rootfsSize: number;
  region: string;
  billingMode: BillingMode;
  webhookUrl: string | null;
  status: InstanceStatus;
  operation: Operation | null;
  operationError: string | null;
  lastError: string | null;
  novitaInstanceId: string | null;
  productId: string | null;
  chosenRegion: string | null;
  clusterId: string | null;
  /** USD an hour, all its GPUs. */
  hourlyPrice: number | null;
  /** USD so far. */
  cost: number | null;
  portMappings: PortMapping[];
  healthCheck: HealthCheck | null;
  createdAt: string;
  startedAt: string | null;
  runningAt: string | null;
  readyAt: string | null;
  failedAt: string | null;
  stoppedAt: string | null;
  terminatedAt: string | null;
  jobs: Record<string, string>;
}

export interface EndpointHealth {
  port: number;
  endpoint: string;
  type: string;
  status: string;
  lastChecked: string;
  responseTime: number;
  error?: string;
}

export interface HealthCheck {
  status: string;
  overallStatus?: string;
  endpoints?: EndpointHealth[];
  startedAt: string;
  completedAt?: string;
  totalResponseTime?: number;
}

export interface InstanceList {
  instances: InstanceView[];
  total: number;
  nextCursor?: string;
}

export interface TimelineEvent {
  id: number;
  type: string;
  timestamp: string;
  sequence?: number;
  data: {
    instanceId: string;
    status: InstanceStatus;
    novitaInstanceId?: string;
    elapsedTime?: number;
    error?: string;
    healthCheck?: HealthCheck;
  };
}

export interface InstanceDetail extends InstanceView {
  timeline: TimelineEvent[];
  deliveries: Delivery[];
}

export interface Product {
  id: string;
  name: string;
  regions: string[];
  available: boolean;
  /** USD per GPU and hour. */
  spotPrice: number | null;
  onDemandPrice: number | null;
  /** GB; null: its name does not say. */
  gpuMemory: number | null;
  cpus: number;
  memory: number;
}

export interface Catalogue {
  products: Product[];
  regions: string[];
}

export type DeliveryStatus = "pending" | "delivered" | "expired" | "disabled" | "refused";

export interface DeliveryAttempt {
  at: string;
  /** Seconds. */
  duration: number;
  /** The HTTP status; absent when no answer came. */
  status?: number | null;
  error?: string | null;
  excerpt?: string;
}

export interface Delivery {
  id: string;
  url: string;
  payload: Record<string, unknown>;
  headers: Record<string, string>;
  instanceId: string | null;
  sequence: number | null;
  type: string | null;
  status: DeliveryStatus;
  attempts: DeliveryAttempt[];
  createdAt: string;
  nextAttemptAt: string | null;
  jobId: string | null;
}

export interface Webhooks {
  deliveries: Delivery[];
  nextCursor?: string;
  targets: DisabledTarget[];
}

export interface DisabledTarget {
  url: string;
  at: string;
}

export interface AuditEntry {
  id: number;
  at: string;
  by: string;
  action: string;
  subject: string;
  requestId: string;
  details: Record<string, unknown>;
}

export interface AuditList {
  entries: AuditEntry[];
  nextCursor?: number;
}
