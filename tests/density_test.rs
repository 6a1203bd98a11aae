//! As many components as a host may have, alive at once.

use std::fmt::Write as _;
use std::time::Instant;

use airssys::{Host, Val};

use crate::support::{component, in_a_process_of_its_own, machine_to_itself, number, resident};

const LIVE: usize = 10_000;

/// Most resident memory a component may add to the process, in bytes: its actor, its Store, the
/// pages of its stack and of its memory that it has touched.
const RESIDENT_EACH: usize = 50 * 1024;

/// Adds to a cell in its memory, or traps.
const CELL: &str = r#"
    (memory 1)
    (func (export "add") (param i32) (result i32)
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (local.get 0)))
        (i32.load (i32.const 0)))
    (func (export "trap") unreachable)
"#;

fn write_tree(dir: &std::path::Path) -> std::path::PathBuf {
    let exports = [("add", "(param \"n\" u32) (result u32)"), ("trap", "")];
    let text = component(CELL, false, &exports);
    std::fs::write(dir.join("cell.wasm"), wat::parse_str(text).unwrap()).unwrap();
    let cell = "[component]\nname = \"cell\"\nversion = \"0.1.0\"\nwasm = \"cell.wasm\"\n\
                [resources.memory]\nmax_bytes = 524288\n";
    std::fs::write(dir.join("Component.toml"), cell).unwrap();
    let mut toml = format!("[system]\nmax_components = {LIVE}\n");
    // A hundred supervisors of a hundred.
    for supervisor in 0..LIVE / 100 {
        write!(
            toml,
            "[[supervisor]]\nname = \"tools-{supervisor}\"\nintensity = 100000\n"
        )
        .unwrap();
        for n in 0..100 {
            let n = supervisor * 100 + n;
            write!(
                toml,
                "[[supervisor.child]]\ncomponent = \"Component.toml\"\nname = \"cell-{n}\"\n"
            )
            .unwrap();
        }
    }
    let path = dir.join("airssys.toml");
    std::fs::write(&path, toml).unwrap();
    path
}

#[test]
fn ten_thousand_components_live_at_once_and_each_answers() {
    let _machine = machine_to_itself();
    if !in_a_process_of_its_own(
        "density_test::ten_thousand_components_live_at_once_and_each_answers",
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write_tree(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let before = resident();
        let began = Instant::now();
        let host = Host::from_config(&path).await.unwrap();
        let idle = resident().saturating_sub(before) / LIVE;
        println!(
            "{LIVE} started in {:.2?}, {:.1} KiB resident each",
            began.elapsed(),
            idle as f64 / 1024.0
        );
        let cells: Vec<_> = (0..LIVE)
            .map(|n| host.component(&format!("cell-{n}")).unwrap())
            .collect();
        let began = Instant::now();
        for (cell, n) in cells.iter().zip(1..) {
            assert_eq!(
                number(&cell.call("add", &[Val::U32(n)]).await.unwrap()),
                i64::from(n)
            );
        }
        println!("{LIVE} called in {:.2?}", began.elapsed());
        let each = resident().saturating_sub(before) / LIVE;
        println!("{:.1} KiB resident each", each as f64 / 1024.0);
        assert!(each < RESIDENT_EACH, "{each} bytes each");
        // Some die; they come back, and nobody else notices.
        for cell in cells.iter().step_by(100) {
            cell.call("trap", &[]).await.unwrap_err();
        }
        for (n, cell) in cells.iter().enumerate() {
            let expected = if n % 100 == 0 { 0 } else { n + 1 };
            let found = number(&cell.call("add", &[Val::U32(0)]).await.unwrap());
            assert_eq!(usize::try_from(found).unwrap(), expected, "cell {n}");
        }
        let began = Instant::now();
        host.shutdown().await;
        println!("{LIVE} stopped in {:.2?}", began.elapsed());
    });
}
