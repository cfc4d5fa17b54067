//! What is learnt is known again, and by nobody else.

use super::*;
use crate::flow::{OneStep, PlannedBandit, Router, Routing, Step};

fn id(name: &str) -> ServiceId {
    ServiceId {
        namespace: "ml".to_owned(),
        name: name.to_owned(),
    }
}

fn planned(epsilon: f64, branches: &[&str]) -> OneStep {
    let branch = |name: &&str| {
        let node = (*name).to_owned();
        (node.clone(), Step::Fixed { node })
    };
    OneStep {
        node: "eg".to_owned(),
        routing: Routing::Bandit(PlannedBandit::EpsilonGreedy {
            epsilon,
            start: None,
            seed: 0,
        }),
        branches: branches.iter().map(branch).collect(),
    }
}

/// Makes a router in a memory of its own, gives it rewards, and returns what it knows then.
fn lived(
    directory: &Path,
    planned: &OneStep,
    of: (&ServiceId, &str),
    won: &[(usize, f64)],
) -> Vec<(f64, u64)> {
    let memory = Memory::start(directory.to_owned(), Teller::nobody()).unwrap();
    let router = Router::remembering(planned, of.1, Some((&memory, of.0)));
    router.take_over();
    for (branch, reward) in won {
        router.reward(*branch, *reward, 2);
    }
    let earned = router.earned();
    memory.stop();
    earned
}

#[test]
fn what_is_learnt_outlives_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("routers");
    let (two, iris) = (planned(0.1, &["a", "b"]), id("iris"));
    let first = lived(&at, &two, (&iris, "eg"), &[(0, 0.5), (1, 1.0), (1, 0.5)]);
    assert_eq!(first, [(0.5, 2), (0.75, 4)]);
    assert_eq!(lived(&at, &two, (&iris, "eg"), &[]), first);
    let more = lived(&at, &two, (&iris, "eg"), &[(0, 0.0)]);
    assert_eq!(more, [(0.25, 4), (0.75, 4)]);
    // Another router, of other branches or parameters, under another name or of another deployment, knows nothing of it.
    let nothing = [(0.0, 0), (0.0, 0)];
    for (planned, of) in [
        (planned(0.2, &["a", "b"]), (&iris, "eg")),
        (planned(0.1, &["a", "c"]), (&iris, "eg")),
        (two.clone(), (&iris, "p/eg")),
        (two.clone(), (&id("iris-2"), "eg")),
    ] {
        assert_eq!(lived(&at, &planned, of, &[]), nothing, "{planned:?} {of:?}");
    }
    assert_eq!(lived(&at, &two, (&iris, "eg"), &[]), more);
}

#[test]
fn what_is_gone_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let two = planned(0.1, &["a", "b"]);
    for name in ["iris", "iris-2"] {
        lived(directory.path(), &two, (&id(name), "eg"), &[(1, 1.0)]);
    }
    let memory = Memory::start(directory.path().to_owned(), Teller::nobody()).unwrap();
    memory.forget(&id("iris"));
    memory.stop();
    let known = |name: &str| lived(directory.path(), &two, (&id(name), "eg"), &[]);
    assert_eq!(known("iris"), [(0.0, 0), (0.0, 0)]);
    assert_eq!(known("iris-2"), [(0.0, 0), (1.0, 2)]);
}

/// A request that is still on its way may reward a router whose flow is gone.
#[test]
fn what_is_gone_does_not_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let (two, iris) = (planned(0.1, &["a", "b"]), id("iris"));
    let memory = Memory::start(directory.path().to_owned(), Teller::nobody()).unwrap();
    let late = Router::remembering(&two, "eg", Some((&memory, &iris)));
    late.take_over();
    late.reward(0, 1.0, 2);
    memory.forget(&iris);
    late.reward(0, 1.0, 2);
    memory.stop();
    let left = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 0, "the file of a router that is gone");
}

/// A router whose parameters are others has the same file; what is told late to the one before is not written over what it knows.
#[test]
fn a_successor_is_not_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (planned(0.1, &["a", "b"]), planned(0.2, &["a", "b"]));
    let iris = id("iris");
    let memory = Memory::start(directory.path().to_owned(), Teller::nobody()).unwrap();
    let of = Some((&memory, &iris));
    let late = Router::remembering(&before, "eg", of);
    late.take_over();
    // One that is made, and whose models are not there yet, takes nothing over.
    let successor = Router::remembering(&after, "eg", of);
    late.reward(0, 1.0, 2);
    let path = directory.path().join("ml.iris.eg.router");
    while !path.exists() {
        std::thread::yield_now();
    }
    successor.take_over();
    successor.reward(1, 1.0, 4);
    late.reward(0, 1.0, 2);
    memory.stop();
    let known = lived(directory.path(), &after, (&iris, "eg"), &[]);
    assert_eq!(known, [(0.0, 0), (1.0, 4)]);
}

/// Lets a router of two branches live once; returns its file, and what that holds.
fn written(directory: &Path, planned: &OneStep, iris: &ServiceId) -> (PathBuf, String) {
    lived(directory, planned, (iris, "eg"), &[(1, 1.0)]);
    let path = directory.join("ml.iris.eg.router");
    let whole = fs::read_to_string(&path).unwrap();
    (path, whole)
}

/// Once, however often the router is made; another router's file is none of its.
#[test]
fn damaged_files_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (two, iris) = (planned(0.1, &["a", "b"]), id("iris"));
    let (path, whole) = written(directory.path(), &two, &iris);
    let head = whole.lines().next().unwrap();
    for (text, why) in [
        (whole.clone(), None),
        (String::from("another\n1 2\n"), None),
        (
            format!("{head}\n0 0\nx\n"),
            Some("line 3 could not be read"),
        ),
        (
            format!("{head}\n1 2\n"),
            Some("it has 1 branches, the router 2"),
        ),
        (
            format!("{head}\n1 2\n0 "),
            Some("its last line does not end"),
        ),
    ] {
        fs::write(&path, &text).unwrap();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let teller = Teller::new({
            let told = Arc::clone(&told);
            move |line| told.lock().unwrap().push(line.to_owned())
        });
        let memory = Memory::start(directory.path().to_owned(), teller).unwrap();
        for _ in 0..2 {
            drop(Router::remembering(&two, "eg", Some((&memory, &iris))));
        }
        memory.stop();
        let expected = why.map(|why| format!("{}: {why}; the router begins anew", path.display()));
        assert_eq!(*told.lock().unwrap(), Vec::from_iter(expected));
    }
}

#[test]
fn damaged_files_are_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let (two, iris) = (planned(0.1, &["a", "b"]), id("iris"));
    let (path, whole) = written(directory.path(), &two, &iris);
    let head = whole.lines().next().unwrap();
    let mut damaged: Vec<String> = (0..whole.len())
        .map(|end| whole[..end].to_owned())
        .collect();
    for arms in [
        "3 2\n0 0\n",
        "-1 2\n0 0\n",
        "1 2\n",
        "1 2\n1 2\n1 2\n",
        "x\n",
        "1e3 2000\n0 0\n",
        "99999999999999999999 1\n0 0\n",
    ] {
        damaged.push(format!("{head}\n{arms}"));
    }
    damaged.push(format!("{head}\n{}", "1 2\n".repeat(1 << 16)));
    for text in damaged {
        fs::write(&path, &text).unwrap();
        let known = lived(directory.path(), &two, (&iris, "eg"), &[]);
        assert_eq!(known, [(0.0, 0), (0.0, 0)], "{:?}", text.get(..80));
    }
    fs::write(&path, &whole).unwrap();
    let known = lived(directory.path(), &two, (&iris, "eg"), &[]);
    assert_eq!(known, [(0.0, 0), (1.0, 2)]);
    // A name that is none of a file's is kept in memory only.
    let strange = ServiceId {
        namespace: "..".to_owned(),
        name: "x".to_owned(),
    };
    let memory = Memory::start(directory.path().to_owned(), Teller::nobody()).unwrap();
    assert!(memory.keeper(&strange, "eg", String::new()).is_none());
    assert!(memory.keeper(&iris, "a\0b", String::new()).is_none());
    assert!(
        memory
            .keeper(&iris, &"a".repeat(300), String::new())
            .is_none()
    );
    memory.stop();
}
