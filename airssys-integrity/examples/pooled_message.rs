//! A message through a pool, read by two threads, and one whose memory failed:
//! `cargo run -p airssys-integrity --example pooled_message --features fault-injection`

use airssys_integrity::{MessagePool, OnReturn, SizeClass, VerificationLevel};
use std::error::Error;
use std::thread;

fn main() -> Result<(), Box<dyn Error>> {
    // All memory of the pool is taken here.
    let classes = [
        SizeClass {
            slot_bytes: 1_024,
            slots: 2,
        },
        SizeClass {
            slot_bytes: 65_536,
            slots: 1,
        },
    ];
    let pool = MessagePool::new(&classes, VerificationLevel::Full, OnReturn::Wipe)?;

    // One copy in, tagged on its way; then shared, not copied.
    let samples = [0.25_f32, -1.5, 3.0];
    let mut writer = pool.acquire(size_of_val(&samples))?;
    for sample in samples {
        writer.append(&sample.to_le_bytes())?;
    }
    let message = writer.freeze();
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let message = message.clone();
            thread::spawn(move || -> Result<String, String> {
                let bytes = message.verify().map_err(|error| error.to_string())?;
                let samples = bytes.as_samples().map_err(|error| error.to_string())?;
                Ok(format!(
                    "reader {reader}: sum {}",
                    samples.iter().sum::<f32>()
                ))
            })
        })
        .collect();
    for reader in readers {
        let line = reader.join().map_err(|_| "a reader panicked")??;
        println!("{line}");
    }

    // Ours is the last clone, so the memory can be hit.
    let mut message = message;
    assert!(message.flip_bit(42), "nobody else holds the message");
    match message.verify() {
        Ok(_) => return Err("the flip was not noticed".into()),
        Err(corrupt) => println!("not delivered: {corrupt}"),
    }

    drop(message);
    println!("free slots: {}", pool.free_slots(0));
    Ok(())
}
