//! JSON Schemas of the messages, made from the types. They are kept in `proto/schema/`; a test sees to it that they
//! don't drift.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};

use crate::envelope::{Kind, Message};
use crate::event::Event;
use crate::job::{Ack, Heard, JobNote, JobOpened, JobRequest, JobResult, Mark, Output, Probe};
use crate::metric::Metrics;
use crate::presence::Presence;
use crate::snapshot::host::HostSnapshot;
use crate::snapshot::keepalived::KeepalivedSnapshot;
use crate::snapshot::lvs::LvsSnapshot;
use crate::snapshot::processes::ProcessesSnapshot;
use crate::snapshot::services::ServicesSnapshot;

/// Name of the schema's file (without `.json`) and the schema, for every message and snapshot.
#[must_use]
pub fn schemas() -> Vec<(String, Schema)> {
    vec![
        message::<JobRequest>(),
        message::<JobOpened>(),
        message::<JobNote>(),
        message::<Ack>(),
        message::<JobResult>(),
        message::<Output>(),
        message::<Event>(),
        message::<Metrics>(),
        message::<Presence>(),
        message::<Mark>(),
        message::<Probe>(),
        message::<Heard>(),
        ("snapshot.host".to_owned(), of::<HostSnapshot>()),
        ("snapshot.keepalived".to_owned(), of::<KeepalivedSnapshot>()),
        ("snapshot.processes".to_owned(), of::<ProcessesSnapshot>()),
        ("snapshot.services".to_owned(), of::<ServicesSnapshot>()),
        ("snapshot.lvs".to_owned(), of::<LvsSnapshot>()),
    ]
}

/// Name of the schema's file for a kind: `muster.job/1` is in `muster.job-1.json`.
#[must_use]
pub fn file_stem(kind: Kind) -> String {
    kind.wire_name().replace('/', "-")
}

fn message<M: Message + JsonSchema>() -> (String, Schema) {
    (file_stem(M::KIND), of::<M>())
}

fn of<T: JsonSchema>() -> Schema {
    // As it is read: added fields have defaults, so none of them is required.
    SchemaGenerator::new(SchemaSettings::draft2020_12().for_deserialize())
        .into_root_schema_for::<T>()
}
