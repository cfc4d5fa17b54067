//! What others see of a shadow while its thread is at a comparison.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use coracle_base::{Clock, SystemClock};
use coracle_serving::ModelTable;
use coracle_tensor::Values;

use super::*;

/// A clock that keeps whoever asks for the time of day, as the thread does in the middle of a comparison, until the gate is open.
#[derive(Debug)]
struct Gate {
    clock: SystemClock,
    reached: Sender<()>,
    open: Mutex<Receiver<()>>,
}

impl Clock for Gate {
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn unix_time(&self) -> Duration {
        let _told = self.reached.send(());
        let _opened = self.open.lock().unwrap().recv();
        self.clock.unix_time()
    }
}

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn begun(pair: &Arc<Pair>) -> Begun {
    Begun {
        pair: Arc::clone(pair),
        kept: ShadowKept::Answers,
        codec: Codec::Grpc,
        body: Bytes::new(),
        trace: None,
    }
}

#[test]
fn who_reads_the_report_waits_for_no_comparison() {
    let ((reached, is_reached), (open, gate)) = (channel(), channel::<()>());
    let clock = Arc::new(Gate {
        clock: SystemClock::new(),
        reached,
        open: Mutex::new(gate),
    });
    let table = Arc::new(SharedTable::new(ModelTable::default()));
    let shadows = Shadows::new((&table, &(clock as Arc<dyn Clock>)), 1);
    let tap = ShadowTap::new(
        id("iris"),
        coracle_serving::ShadowSettings {
            service: "next".to_owned(),
            percent: 100,
            kept: ShadowKept::Answers,
        },
    );
    let pair = shadows.pair(&tap).unwrap();
    let n_requests = |shadows: &Shadows| -> u64 {
        let reports = shadows.reports(Some(&id("iris")));
        let all = reports.iter().flat_map(|report| report.comparisons.iter());
        all.map(|compared| compared.requests).sum()
    };
    let copied = Copied {
        begun: begun(&pair),
        revision: "iris-1".to_owned(),
        answer: Ok(Box::new(Answered {
            outputs: vec![("y".to_owned(), Tensor::from_values(Values::U8(vec![1])))],
            elapsed: Duration::ZERO,
        })),
        _room: Room::try_new(&shadows.inner.held, 1).unwrap(),
    };
    pair.queue.try_send(copied).unwrap();
    is_reached.recv().unwrap();
    // The thread is at the comparison, and stays there.
    assert_eq!((n_requests(&shadows), shadows.figures().len()), (0, 1));
    drop(open);
    while n_requests(&shadows) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(shadows.figures()[0].outcomes[4], ("failed", 1));
}
