//! A chain of three components, gain, low-pass filter and meter, that is handed a block of 128
//! samples every 2.67 ms (48 kHz): at first alone, then beside a sibling that loops flat out and
//! another that runs out of memory and is replaced all the time.
//!
//! Blocks go from stage to stage as the checked messages they came in: nothing is decoded in between.
//! What leaves the chain is compared, bit by bit, with the same computed here. A block is late that
//! has not left the chain when the next one is there, and lost where eight wait already; both are
//! counted and end nothing. There is no promise of real time here: a general-purpose scheduler is in
//! the way. The exit code is 1 if a sample differs, or a stage was replaced.
//!
//! Run it with `cargo run --release --example audio -- --seconds 10`: so long each, or 3 seconds where
//! nothing is said.

use std::error::Error;
use std::f32::consts::TAU;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use airssys::{
    ChildSpec, ComponentConfig, ComponentRef, ComponentSpec, Host, Intensity, SupervisorSpec, Val,
};
use tokio::sync::mpsc;

const RATE: u32 = 48_000;
const BLOCK: u32 = 128;
/// Blocks that wait for the chain; one more is lost.
const QUEUE: usize = 8;
const FACTOR: f32 = 0.5;
const CUTOFF_HZ: f64 = 1_000.0;

/// From one block to the next.
fn block_time() -> Duration {
    Duration::from_secs(1) * BLOCK / RATE
}

/// A block of the signal, and when it was there.
struct Block {
    due: Instant,
    samples: Vec<f32>,
}

/// What a sound card does: a block each time it is due. The timers of the runtime are too coarse.
fn record(seconds: u32, blocks: &mpsc::Sender<Block>) -> u32 {
    let began = Instant::now();
    let mut lost = 0;
    for number in 0..seconds * RATE / BLOCK {
        let due = began + block_time() * (number + 1);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        let first = number * BLOCK;
        // Half a tone of 440 Hz, and half one of 9 kHz for the filter to take out.
        let tone = |at: u32, hertz: f32| (TAU * hertz * (at % RATE) as f32 / RATE as f32).sin();
        let samples = (first..first + BLOCK)
            .map(|at| 0.5 * tone(at, 440.0) + 0.5 * tone(at, 9_000.0))
            .collect();
        lost += u32::from(blocks.try_send(Block { due, samples }).is_err());
    }
    lost
}

/// The transfer function of a second-order low-pass, from the Audio EQ Cookbook, with Q = 1/sqrt(2).
fn low_pass() -> [f32; 5] {
    let w = std::f64::consts::TAU * CUTOFF_HZ / f64::from(RATE);
    let alpha = w.sin() / std::f64::consts::SQRT_2;
    let a0 = 1.0 + alpha;
    let b = (1.0 - w.cos()) / 2.0;
    let all = [b, 2.0 * b, b, -2.0 * w.cos(), 1.0 - alpha];
    all.map(|coefficient| (coefficient / a0) as f32)
}

/// The chain as it is to be, computed here.
struct Reference {
    coefficients: [f32; 5],
    remembered: (f32, f32),
}

impl Reference {
    /// The block behind the filter, its peak and its RMS.
    fn process(&mut self, block: &[f32]) -> (Vec<f32>, f32, f32) {
        let [b0, b1, b2, a1, a2] = self.coefficients;
        let (mut one, mut two) = self.remembered;
        let mut pass = |x: f32| {
            let y = b0 * x + one;
            one = b1 * x - a1 * y + two;
            two = b2 * x - a2 * y;
            y
        };
        let passed: Vec<f32> = block.iter().map(|sample| pass(sample * FACTOR)).collect();
        self.remembered = (one, two);
        let peak = passed.iter().fold(0.0, |peak: f32, y| peak.max(y.abs()));
        let squares: f32 = passed.iter().map(|y| y * y).sum();
        (passed, peak, (squares / BLOCK as f32).sqrt())
    }
}

/// The three stages.
struct Chain {
    gain: ComponentRef,
    filter: ComponentRef,
    meter: ComponentRef,
}

impl Chain {
    async fn set_up(&self) -> Result<(), Box<dyn Error>> {
        let factor = [Val::Float32(FACTOR)];
        self.gain.call("set-factor", &factor).await?;
        let names = ["b0", "b1", "b2", "a1", "a2"].map(String::from);
        let values = low_pass().map(Val::Float32);
        let coefficients = Val::Record(names.into_iter().zip(values).collect());
        self.filter
            .call("set-coefficients", &[coefficients])
            .await?;
        Ok(())
    }

    /// What leaves the filter, and what the meter says of it: its peak and its RMS.
    async fn process(&self, block: &[f32]) -> Result<(Vec<Val>, Vec<Val>), Box<dyn Error>> {
        let samples = block.iter().copied().map(Val::Float32).collect();
        let message = self.gain.encode("amplify", &[Val::List(samples)])?;
        let amplified = self.gain.call_encoded("amplify", message).await?;
        let passed = amplified.message().clone();
        let passed = self.filter.call_encoded("pass", passed).await?;
        let measured = passed.message().clone();
        let measured = self.meter.call_encoded("measure", measured).await?;
        Ok((passed.values()?, measured.values()?))
    }

    fn replaced(&self) -> u64 {
        let stages = [&self.gain, &self.filter, &self.meter];
        stages.iter().map(|stage| stage.metrics().restarts).sum()
    }
}

/// What came out of the chain.
struct Heard {
    /// From being due to having left the chain, of each block; the shortest first.
    times: Vec<Duration>,
    /// Blocks that the chain was too far behind for.
    lost: u32,
    /// Blocks that differ from the reference.
    wrong: u32,
}

impl Heard {
    /// The time that this share of the blocks kept within, in microseconds.
    fn within(&self, share: f64) -> u128 {
        let rank = (self.times.len() as f64 * share).ceil() as usize;
        let took = self.times.get(rank.saturating_sub(1));
        took.copied().unwrap_or_default().as_micros()
    }

    fn print(&self, when: &str) {
        println!("{when}:");
        let mut above = Duration::ZERO;
        for eighths in [1, 2, 4, 8, 16, 32, u32::MAX] {
            let bound = block_time().saturating_mul(eighths) / 8;
            let inside = |took: &&Duration| **took > above && **took <= bound;
            let count = self.times.iter().filter(inside).count();
            let bar = "#".repeat((count * 60).div_ceil(self.times.len().max(1)));
            let bound = match eighths {
                u32::MAX => String::from("longer"),
                _ => format!("{} us", bound.as_micros()),
            };
            println!("{bound:>9} {count:6} {bar}");
            above = block_time().saturating_mul(eighths) / 8;
        }
        let late = self.times.iter().filter(|took| **took > block_time());
        println!(
            "{} blocks, {} late, {} lost, {} wrong; p50 {} us, p99 {} us, max {} us",
            self.times.len(),
            late.count(),
            self.lost,
            self.wrong,
            self.within(0.5),
            self.within(0.99),
            self.within(1.0)
        );
    }
}

/// Has the chain process what is recorded in so many seconds.
async fn listen(
    chain: &Chain,
    reference: &mut Reference,
    seconds: u32,
) -> Result<Heard, Box<dyn Error>> {
    let (sender, mut blocks) = mpsc::channel(QUEUE);
    let device = std::thread::spawn(move || record(seconds, &sender));
    let (mut times, mut wrong) = (Vec::new(), 0);
    while let Some(Block { due, samples }) = blocks.recv().await {
        let (passed, measured) = chain.process(&samples).await?;
        times.push(due.elapsed());
        let (expected, peak, rms) = reference.process(&samples);
        let expected = [Val::List(expected.into_iter().map(Val::Float32).collect())];
        let levels = [("peak", peak), ("rms", rms)];
        let levels = levels.map(|(name, level)| (name.to_owned(), Val::Float32(level)));
        let is_right = passed == expected && measured == [Val::Record(levels.to_vec())];
        wrong += u32::from(!is_right);
    }
    times.sort_unstable();
    let lost = device.join().map_err(|_| "the device panicked")?;
    Ok(Heard { times, lost, wrong })
}

/// Calls a function that its component does not survive, again and again, and says how often.
async fn torment(
    component: ComponentRef,
    function: &'static str,
    stop: Arc<AtomicBool>,
) -> (ComponentRef, u64) {
    let mut deaths = 0;
    while !stop.load(Ordering::Relaxed) {
        deaths += u64::from(component.call(function, &[]).await.is_err());
    }
    (component, deaths)
}

async fn start() -> Result<Host, Box<dyn Error>> {
    let load = |guest: &str| {
        let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/components");
        ComponentConfig::load(format!("{guests}/{guest}/Component.toml"))
    };
    let dsp = load("dsp")?;
    let mut chain = SupervisorSpec::new("chain");
    for stage in ["gain", "filter", "meter"] {
        chain = chain.child(ChildSpec::component_named(stage.parse()?, dsp.clone()));
    }
    let mut hostile = SupervisorSpec::new("hostile").intensity(Intensity {
        restarts: 100_000,
        period: Duration::from_secs(1),
    });
    for guest in ["spinner", "leaky"] {
        hostile = hostile.child(ChildSpec::component(load(guest)?));
    }
    let builder = Host::builder().supervisor(chain).supervisor(hostile);
    Ok(builder.start().await?)
}

fn seconds() -> Result<u32, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(3),
        (Some("--seconds"), Some(seconds)) => match seconds.parse()? {
            seconds @ 1..=3_600 => Ok(seconds),
            _ => Err("--seconds takes 1 to 3600".into()),
        },
        _ => Err("usage: audio [--seconds N]".into()),
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let seconds = seconds()?;
    let host = start().await?;
    let chain = Chain {
        gain: host.component("gain")?,
        filter: host.component("filter")?,
        meter: host.component("meter")?,
    };
    chain.set_up().await?;
    let mut reference = Reference {
        coefficients: low_pass(),
        remembered: (0.0, 0.0),
    };
    let alone = listen(&chain, &mut reference, seconds).await?;
    alone.print("alone");

    let stop = Arc::new(AtomicBool::new(false));
    let mut torments = Vec::new();
    for (component, function) in [("spinner", "spin"), ("leaky", "leak-until-refused")] {
        let component = host.component(component)?;
        let torment = torment(component, function, Arc::clone(&stop));
        torments.push(tokio::spawn(torment));
    }
    let beside = listen(&chain, &mut reference, seconds).await?;
    stop.store(true, Ordering::Relaxed);
    beside.print("beside a sibling that loops and one that runs out of memory");
    for torment in torments {
        let (component, deaths) = torment.await?;
        println!("{} died {deaths} times", component.name());
    }
    let replaced = chain.replaced();
    println!("stages replaced: {replaced}");
    host.shutdown().await;
    let is_good = |heard: &Heard| heard.wrong == 0 && !heard.times.is_empty();
    let is_good = is_good(&alone) && is_good(&beside) && replaced == 0;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
