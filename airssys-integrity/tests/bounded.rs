//! What the bounded list and stack promise, seen from outside.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use airssys_integrity::{AccessError, BoundedStack, BoundedVec, PushError};
use proptest::prelude::*;

/// Three bytes, so that items lie across lanes and blocks.
type Odd = [u8; 3];
/// 1,203 bytes: two full blocks and a third that ends within a lane.
type OddVec = BoundedVec<Odd, 401, 3>;

fn odd(number: usize) -> Odd {
    let [low, high, ..] = number.to_le_bytes();
    [low, high, low ^ 0x5A]
}

fn full() -> OddVec {
    let mut list = OddVec::new();
    for number in 0..list.capacity() {
        list.push(odd(number)).unwrap();
    }
    list
}

#[test]
fn a_full_list_hands_the_item_back() {
    let mut list = BoundedVec::<u32, 2>::new();
    list.push(1).unwrap();
    list.push(2).unwrap();
    assert_eq!(
        list.push(3),
        Err(PushError::Full {
            item: 3,
            capacity: 2
        })
    );
    assert_eq!(list.as_slice().unwrap(), [1, 2]);
}

#[test]
fn an_index_past_the_end_is_out_of_bounds() {
    let mut list = BoundedVec::<u32, 2>::new();
    let out = |index, len| Err(AccessError::OutOfBounds { index, len });
    assert_eq!(list.get(0), out(0, 0));
    list.push(1).unwrap();
    assert_eq!(
        list.set(1, 7),
        Err(AccessError::OutOfBounds { index: 1, len: 1 })
    );
    assert_eq!(list.get(usize::MAX), out(usize::MAX, 1));
}

#[test]
fn every_single_flip_of_items_tags_and_length_is_caught() {
    let mut list = full();
    list.pop().unwrap();
    let mut bits = 0;
    while list.flip_bit(bits) {
        list.flip_bit(bits);
        bits += 1;
    }
    // Items, three tags, the length and its tag.
    assert_eq!(bits, 8 * (401 * 3 + 3 * 4 + size_of::<usize>() + 4));
    let wanted = full().as_slice().unwrap().to_vec();
    for bit in 0..bits {
        list.flip_bit(bit);
        assert!(list.as_slice().is_err(), "bit {bit}");
        assert!(list.iter().is_err(), "bit {bit}");
        list.flip_bit(bit);
    }
    assert_eq!(list.as_slice().unwrap(), wanted.split_last().unwrap().1);
}

#[test]
fn a_flip_in_an_item_is_caught_by_every_way_to_it() {
    for number in 0..401 {
        for bit in 0..24 {
            let mut list = full();
            list.flip_bit(number * 24 + bit);
            assert!(matches!(list.get(number), Err(AccessError::Corrupt(_))));
            if number == 400 {
                list.peek().unwrap_err();
                list.pop().unwrap_err();
                assert_eq!(list.len(), Ok(401));
            }
        }
    }
}

#[test]
fn a_flip_in_the_length_stops_every_access() {
    let mut list = BoundedVec::<u64, 4>::new();
    list.push(7).unwrap();
    let length = 8 * (4 * 8 + 4);
    for bit in length..length + usize::BITS as usize + 32 {
        list.flip_bit(bit);
        assert!(matches!(
            list.push(1),
            Err(PushError::Corrupt { item: 1, .. })
        ));
        assert!(matches!(list.set(0, 1), Err(AccessError::Corrupt(_))));
        assert!(matches!(list.get(0), Err(AccessError::Corrupt(_))));
        list.pop().unwrap_err();
        list.peek().unwrap_err();
        list.len().unwrap_err();
        list.flip_bit(bit);
    }
    assert_eq!(list.as_slice().unwrap(), [7]);
}

/// The predecessor's defect: one update took the tag from memory, and the fault was made good.
#[test]
fn no_change_makes_an_earlier_fault_good() {
    for bit in 0..16 * 32 {
        let mut list = BoundedVec::<u32, 16>::new();
        for number in 0..8 {
            list.push(number).unwrap();
        }
        list.flip_bit(bit);
        list.push(8).unwrap();
        for index in 0..9 {
            list.set(index, 100).unwrap();
        }
        list.pop().unwrap_err();
        assert!(list.as_slice().is_err(), "bit {bit}");
        list.clear();
        assert!(list.as_slice().unwrap().is_empty());
    }
}

#[test]
fn a_stack_gives_back_the_last_item_first() {
    let mut stack = BoundedStack::<u16, 3>::new();
    assert_eq!(stack.pop(), Ok(None));
    for item in [1, 2, 3] {
        stack.push(item).unwrap();
    }
    assert!(matches!(
        stack.push(4),
        Err(PushError::Full { item: 4, .. })
    ));
    assert_eq!(stack.peek(), Ok(Some(3)));
    let popped: Vec<u16> = std::iter::from_fn(|| stack.pop().unwrap()).collect();
    assert_eq!(popped, [3, 2, 1]);
    stack.push(5).unwrap();
    stack.flip_bit(0);
    stack.pop().unwrap_err();
}

#[derive(Debug, Clone)]
enum Step {
    Push(Odd),
    Pop,
    Set(usize, Odd),
    Get(usize),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..410_usize;
    prop_oneof![
        12 => any::<Odd>().prop_map(Step::Push),
        3 => Just(Step::Pop),
        4 => (index.clone(), any::<Odd>()).prop_map(|(index, item)| Step::Set(index, item)),
        3 => index.prop_map(Step::Get),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_list_behaves_as_a_vec(
        start in 0..=401_usize,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut list = OddVec::new();
        let mut model = Vec::new();
        for number in 0..start {
            list.push(odd(number)).unwrap();
            model.push(odd(number));
        }
        for step in steps {
            match step {
                Step::Push(item) if model.len() == 401 => {
                    let full = PushError::Full { item, capacity: 401 };
                    prop_assert_eq!(list.push(item), Err(full));
                }
                Step::Push(item) => {
                    model.push(item);
                    list.push(item).unwrap();
                }
                Step::Pop => {
                    prop_assert_eq!(list.peek().unwrap(), model.last().copied());
                    prop_assert_eq!(list.pop().unwrap(), model.pop());
                }
                Step::Set(index, item) => {
                    let held = model.get_mut(index).map(|slot| *slot = item);
                    prop_assert_eq!(list.set(index, item).ok(), held);
                }
                Step::Get(index) => {
                    prop_assert_eq!(list.get(index).ok(), model.get(index).copied());
                }
                Step::Clear => {
                    list.clear();
                    model.clear();
                }
            }
            prop_assert_eq!(list.as_slice().unwrap(), &model[..]);
            prop_assert_eq!(list.iter().unwrap().collect::<Vec<_>>(), model.clone());
            prop_assert_eq!(list.len(), Ok(model.len()));
            prop_assert_eq!(list.is_empty(), Ok(model.is_empty()));
        }
    }
}
