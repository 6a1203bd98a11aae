//! Supervision end to end: what dies is replaced, and nobody else notices.

use airssys::{Val, WasmError};
use airssys_guests::{CALCULATOR, LEAKY};

use crate::support::{Tree, block_on, shared_machine};

#[test]
fn an_oom_instance_is_replaced_and_the_caller_gets_the_figures() {
    let _machine = shared_machine();
    block_on(async {
        let tree = Tree::new().guest("calculator", CALCULATOR).guest("leaky", LEAKY);
        let host = tree.start().await.unwrap();
        let calculator = host.component("calculator").unwrap();
        let sum = calculator
            .call("docs:adder/add@0.1.0#add", &[Val::U32(2), Val::U32(3)])
            .await
            .unwrap();
        assert_eq!(sum, [Val::U32(5)]);
        let leaky = host.component("leaky").unwrap();
        let error = leaky.call("leak-until-refused", &[]).await.unwrap_err();
        let WasmError::OutOfMemory {
            limit_bytes,
            current_bytes,
            requested_bytes,
            peak_bytes,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(limit_bytes, 1_048_576);
        assert!(current_bytes + requested_bytes > limit_bytes);
        assert!(current_bytes <= peak_bytes && peak_bytes <= limit_bytes);
        assert_eq!(leaky.call("held", &[]).await.unwrap(), [Val::U64(0)]);
        host.shutdown().await;
    });
}
