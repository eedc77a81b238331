//! The paths and JSON shapes of the agent that Muster replaces, so that what called it can call this. Everything is looked
//! at when it is asked for: nothing here is older than the request, but for what is measured over a time.

mod cpu;
mod director;
mod disks;
mod dist;
mod interfaces;
mod json;
mod lvs;
mod memory;
mod together;
mod traffic;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{self, Query, State as Shared};
use axum::routing::get;

use self::director::Director;
use self::disks::Disks;
use self::json::Body;
use self::together::Together;
use super::refusal::Refusal;
use crate::collect::HostRoots;
use crate::collect::files::Files;
use crate::collect::schedule::Collectors;

/// What can be asked under `/node/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Dist,
    CpuInfo,
    MemInfo,
    LoadAvg,
    IfInfo,
    IfTraffic,
    HddInfo,
    CpuDetail,
    LvsStatsSumm,
    LvsConn,
    LvsStatus,
    LvsTraffic,
}

static QUESTIONS: &[(&str, Question)] = &[
    ("dist", Question::Dist),
    ("GetCpuInfo", Question::CpuInfo),
    ("GetMemInfo", Question::MemInfo),
    ("GetLoadAvg", Question::LoadAvg),
    ("GetIfInfo", Question::IfInfo),
    ("GetIfTraffic", Question::IfTraffic),
    ("GetHddInfo", Question::HddInfo),
    ("GetCpuDetail", Question::CpuDetail),
    ("GetLvsStatsSumm", Question::LvsStatsSumm),
    ("GetLvsConn", Question::LvsConn),
    ("GetLvsStatus", Question::LvsStatus),
    ("GetLvsTraffic", Question::LvsTraffic),
];

/// The paths, for whoever asks for another.
pub(super) fn paths() -> impl Iterator<Item = String> {
    QUESTIONS.iter().map(|(name, _)| format!("/node/{name}"))
}

/// Looks at the host. Cheap to clone.
#[derive(Clone)]
pub(super) struct Node(Arc<Eyes>);

struct Eyes {
    roots: HostRoots,
    disks: Disks,
    all_disks: Together<Body>,
    cpu_detail: Together<Body>,
    director: Director,
}

/// The routes. A slash at the end makes no difference, and the interface may stand in the path.
pub(super) fn router(node: Node) -> Router {
    let mut router = Router::new().route("/", get(async || "hello cherrypy"));
    for (name, question) in QUESTIONS {
        let answer = get(
            async move |Shared(node): Shared<Node>,
                        Query(query): Query<BTreeMap<String, String>>| {
                let interface = query.get("interface").map(String::as_str);
                node.answer(*question, interface).await
            },
        );
        let path = format!("/node/{name}");
        router = router
            .route(&format!("{path}/"), answer.clone())
            .route(&path, answer);
    }
    let named = async |Shared(node): Shared<Node>, extract::Path(name): extract::Path<String>| {
        node.answer(Question::IfInfo, Some(&name)).await
    };
    router
        .route("/node/GetIfInfo/{interface}", get(named))
        .with_state(node)
}

impl Node {
    pub(super) fn new(roots: HostRoots, collectors: Collectors) -> Self {
        Self(Arc::new(Eyes {
            roots,
            disks: Disks::default(),
            all_disks: Together::default(),
            cpu_detail: Together::default(),
            director: Director::new(collectors),
        }))
    }

    /// Keeps an eye on what has to be known when it is asked for. For ever.
    pub(super) async fn follow(&self) -> std::convert::Infallible {
        self.0.director.follow().await
    }

    async fn answer(&self, question: Question, interface: Option<&str>) -> Result<Body, Refusal> {
        let Eyes {
            roots,
            disks,
            all_disks,
            cpu_detail,
            director,
        } = &*self.0;
        let proc = async |file: &str| read(&roots.proc.join(file)).await;
        match question {
            Question::Dist => {
                let root = roots.root.clone();
                blocking(move || dist::read(&root)).await?
            }
            Question::CpuInfo => cpu::info(&proc("cpuinfo").await?),
            Question::MemInfo => memory::info(&proc("meminfo").await?),
            Question::LoadAvg => memory::load(&proc("loadavg").await?),
            Question::IfInfo => interfaces::one(&proc("net/dev").await?, interface),
            Question::IfTraffic => interfaces::traffic(&proc("net/dev").await?),
            Question::HddInfo => all_disks.look(disks.read(roots)).await,
            Question::CpuDetail => cpu_detail.look(cpu::detail(roots)).await,
            Question::LvsStatsSumm => {
                let text = proc("net/ip_vs_stats").await;
                lvs::sums(&text.map_err(|_| director::no_ipvs())?)
            }
            Question::LvsConn => lvs::connections(&director.now().await?),
            Question::LvsStatus => lvs::status(&director.now().await?),
            Question::LvsTraffic => director.traffic().await,
        }
    }
}

/// Reads a file of the kernel's.
async fn read(path: &Path) -> Result<String, Refusal> {
    let path = path.to_owned();
    let text = blocking(move || {
        let text = Files::default().text(&path).map(|text| text.into_owned());
        text.map_err(|error| Refusal::unavailable(error.to_string()))
    });
    text.await?
}

/// Does what may wait for the kernel where it holds up nobody else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Refusal::unavailable("the look at the host panicked, which is a defect of the agent")
    })
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
