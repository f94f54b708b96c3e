"""The instance service: GPU instances created, watched and deleted by jobs."""

from durably.instances.catalogue import Catalogue, ProductOffer
from durably.instances.deliveries import DeliveryPage
from durably.instances.events import (
    DeliveryAttempt,
    DeliveryConflictError,
    DeliveryNotFoundError,
    DeliveryStatus,
    DisabledTarget,
    TargetNotDisabledError,
    WebhookDelivery,
)
from durably.instances.instance import (
    Instance,
    InstanceConflictError,
    InstanceNotFoundError,
    InstanceStatus,
    OnFailure,
    Operation,
)
from durably.instances.novita import NovitaClient
from durably.instances.provider import (
    BillingMode,
    Provider,
    ProviderError,
    ProviderUnavailable,
    Unauthorized,
)
from durably.instances.reconciler import Reconciliation
from durably.instances.request import Fault, InstanceRequest, ValidationError
from durably.instances.worker import InstancePage, JobWorkerService

__all__ = [
    "BillingMode",
    "Catalogue",
    "DeliveryAttempt",
    "DeliveryConflictError",
    "DeliveryNotFoundError",
    "DeliveryPage",
    "DeliveryStatus",
    "DisabledTarget",
    "Fault",
    "Instance",
    "InstanceConflictError",
    "InstanceNotFoundError",
    "InstancePage",
    "InstanceRequest",
    "InstanceStatus",
    "JobWorkerService",
    "NovitaClient",
    "OnFailure",
    "Operation",
    "ProductOffer",
    "Provider",
    "ProviderError",
    "ProviderUnavailable",
    "Reconciliation",
    "TargetNotDisabledError",
    "Unauthorized",
    "ValidationError",
    "WebhookDelivery",
]
