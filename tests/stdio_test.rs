//! Variables, arguments, standard streams, clocks and randomness of a guest.

use airssys::{EventStream, OutputLine, OutputStreamName, Received, Val};

use crate::filesystem_test::prober;
use crate::support::{Alone, Tree, block_on, start_failure};

const PROCESS: &str = "airssys:prober/process@0.1.0";

impl Alone {
    async fn process(&self, function: &str) -> Val {
        let mut answer = self
            .call(&format!("{PROCESS}#{function}"), &[])
            .await
            .unwrap();
        answer.remove(0)
    }

    async fn print(&self, function: &str, text: &str) {
        let arguments = [Val::String(text.into())];
        let called = self
            .call(&format!("{PROCESS}#{function}"), &arguments)
            .await;
        called.unwrap();
    }
}

fn texts(texts: &[&str]) -> Val {
    Val::List(
        texts
            .iter()
            .map(|text| Val::String((*text).into()))
            .collect(),
    )
}

fn pair(name: &str, value: &str) -> Val {
    Val::Tuple(vec![Val::String(name.into()), Val::String(value.into())])
}

async fn line(lines: &mut EventStream<OutputLine>) -> OutputLine {
    match lines.next().await {
        Some(Received::Event(line)) => line,
        other => panic!("no line: {other:?}"),
    }
}

#[test]
fn a_guest_sees_the_variables_and_arguments_it_was_granted_and_no_others() {
    block_on(async {
        let alone = Alone::of(prober("")).await.unwrap();
        assert_eq!(alone.process("variables").await, Val::List(vec![]));
        assert_eq!(alone.process("arguments").await, texts(&[]));
        assert_eq!(alone.process("input").await, Val::String(String::new()));

        assert!(std::env::var_os("PATH").is_some());
        let alone = Alone::of(prober(
            "[capabilities.environment]\ninherit = [\"PATH\", \"NO_SUCH_VARIABLE\", \"HOME\"]\n\
             set = [\"MODE=fast=yes\", \"HOME=/nowhere\"]\narguments = [\"tool\", \"--x\"]\n\
             [capabilities.stdio]\ninput = \"Component.toml\"",
        ))
        .await
        .unwrap();
        let expected = Val::List(vec![
            pair("PATH", &std::env::var("PATH").unwrap()),
            pair("MODE", "fast=yes"),
            pair("HOME", "/nowhere"),
        ]);
        assert_eq!(alone.process("variables").await, expected);
        assert_eq!(alone.process("arguments").await, texts(&["tool", "--x"]));
        let Val::String(input) = alone.process("input").await else {
            panic!("no text")
        };
        assert!(input.starts_with("[component]"), "{input}");
    });
}

async fn with_policy(tree: Tree, policy: &str) -> Result<Alone, airssys::HostError> {
    let path = tree.write();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{policy}\n")).unwrap();
    let host = airssys::Host::from_config(&path).await?;
    Ok(Alone::in_host(host, tree))
}

#[test]
fn a_variable_beyond_the_policy_is_not_loaded() {
    block_on(async {
        let inherit = || prober("[capabilities.environment]\ninherit = [\"PATH\"]");
        let refused = with_policy(inherit(), "[policy.environment]\ninherit = [\"LANG\"]").await;
        let told = start_failure(refused).to_string();
        assert!(told.contains("policy.environment.inherit"), "{told}");
        let refused = with_policy(inherit(), "[policy]\nunnamed = \"deny\"").await;
        assert!(start_failure(refused).to_string().contains("PATH"));
        with_policy(inherit(), "[policy.environment]\ninherit = [\"PATH\"]")
            .await
            .unwrap();
    });
}

#[test]
fn standard_input_from_beyond_the_policy_is_not_loaded() {
    block_on(async {
        let input = || prober("[capabilities.stdio]\ninput = \"data/in\"");
        for (policy, loads) in [
            ("[policy.filesystem]\nread = [\"alone\"]", true),
            ("[policy.filesystem]\nwrite = [\"alone\"]", true),
            ("[policy.filesystem]\nread = [\"other\"]", false),
            ("[policy]\nunnamed = \"deny\"", false),
        ] {
            let tree = input();
            std::fs::write(tree.path().join("alone/data/in"), "x").unwrap();
            let loaded = with_policy(tree, policy).await;
            if loads {
                let read = loaded.unwrap().process("input").await;
                assert_eq!(read, Val::String("x".into()));
            } else {
                let told = start_failure(loaded).to_string();
                assert!(told.contains("capabilities.stdio.input"), "{told}");
            }
        }
        // By where a link leads.
        let tree = input();
        std::os::unix::fs::symlink("/etc/hostname", tree.path().join("alone/data/in")).unwrap();
        let refused = with_policy(tree, "[policy.filesystem]\nread = [\"alone\"]").await;
        assert!(start_failure(refused).to_string().contains("/etc/hostname"));
    });
}

#[test]
fn what_a_guest_prints_is_told_by_the_line() {
    block_on(async {
        let alone = Alone::of(prober("")).await.unwrap();
        let mut lines = alone.host.output();
        alone.print("print", "one\ntwo").await;
        alone.print("print", " and more\r\n\nlast").await;
        alone.print("print-error", "\u{1b}[31mred\u{1b}[0m\n").await;
        let mut told = Vec::new();
        for _ in 0..4 {
            let line = line(&mut lines).await;
            assert_eq!(line.component.as_str(), "alone");
            assert_eq!((line.generation, line.left_out), (1, 0));
            told.push((line.stream, line.text));
        }
        use OutputStreamName::{Stderr, Stdout};
        let expected = [
            (Stdout, "one"),
            (Stdout, "two and more"),
            (Stdout, ""),
            (Stderr, "\u{1b}[31mred\u{1b}[0m"),
        ];
        assert_eq!(
            told,
            expected.map(|(stream, text)| (stream, text.to_owned()))
        );
        // What has no end of line is told when the instance ends.
        alone.host.shutdown().await;
        assert_eq!(line(&mut lines).await.text, "last");
    });
}

#[test]
fn a_guest_that_prints_without_end_is_cut_and_told_so() {
    block_on(async {
        let alone = Alone::of(prober("")).await.unwrap();
        let mut lines = alone.host.output();
        for _ in 0..20 {
            alone.print("print", &"x".repeat(10_000)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        alone.print("print", "\nend\n").await;
        let (mut bytes, mut left_out) = (0, 0);
        loop {
            let line = line(&mut lines).await;
            assert!(line.text.len() <= airssys_wasm::MAX_LINE_BYTES);
            left_out += line.left_out;
            if line.text == "end" {
                break;
            }
            bytes += line.text.len() as u64;
        }
        assert_eq!(bytes + left_out, 200_000);
        assert!(left_out > 50_000, "{left_out}");
    });
}

#[test]
fn output_that_is_discarded_is_told_to_nobody() {
    block_on(async {
        let tree = prober("[capabilities.stdio]\noutput = \"discard\"");
        let alone = Alone::of(tree).await.unwrap();
        let mut lines = alone.host.output();
        alone.print("print", "one\n").await;
        alone.host.shutdown().await;
        drop(alone);
        assert!(!matches!(lines.next().await, Some(Received::Event(_))));
    });
}

#[test]
fn a_seed_makes_clocks_and_randomness_the_same_in_each_run() {
    block_on(async {
        let run = async |seed: &str| {
            let alone = Alone::of(prober(seed)).await.unwrap();
            let mut seen = Vec::new();
            for _ in 0..3 {
                seen.push(alone.process("random").await);
                seen.push(alone.process("clocks").await);
            }
            seen
        };
        let seeded = "[capabilities.deterministic]\nseed = 42";
        assert_eq!(run(seeded).await, run(seeded).await);
        assert_ne!(
            run(seeded).await,
            run("[capabilities.deterministic]\nseed = 43").await
        );
        assert_ne!(run("").await, run("").await);
    });
}
