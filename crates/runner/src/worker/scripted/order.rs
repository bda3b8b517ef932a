//! In which order a workload goes its two ways.

use super::refusal::Refusal;

/// Which of two ways of doing the work is gone first. They take turns, because the second finds a machine that the first has warmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Usual,
    Reversed,
}

impl Order {
    pub(super) fn of_round(round: usize) -> Order {
        if round.is_multiple_of(2) { Order::Usual } else { Order::Reversed }
    }

    /// Goes both ways, with something in between.
    pub(super) fn both<A, B>(
        self,
        usually_first: impl FnOnce() -> Result<A, Refusal>,
        usually_second: impl FnOnce() -> Result<B, Refusal>,
        between: impl FnOnce(),
    ) -> Result<(A, B), Refusal> {
        match self {
            Order::Usual => {
                let first = usually_first()?;
                between();
                Ok((first, usually_second()?))
            }
            Order::Reversed => {
                let second = usually_second()?;
                between();
                Ok((usually_first()?, second))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_ways_take_turns_and_answer_in_the_usual_order() {
        let gone = |round| {
            let gone = RefCell::new(vec![]);
            let go = |way: &'static str| {
                gone.borrow_mut().push(way);
                Ok(way)
            };
            let between = || gone.borrow_mut().push("between");
            assert_eq!(Order::of_round(round).both(|| go("first"), || go("second"), between), Ok(("first", "second")));
            gone.into_inner()
        };
        assert_eq!(gone(0), ["first", "between", "second"]);
        assert_eq!(gone(1), ["second", "between", "first"]);
        assert_eq!(gone(2), gone(0));
        let failed = Order::Usual.both(|| Err::<(), _>(Refusal::Failed("no".into())), || Ok(()), || ());
        assert_eq!(failed, Err(Refusal::Failed("no".into())));
    }
}
