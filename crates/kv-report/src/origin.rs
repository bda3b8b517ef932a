//! Where blocks were timed: parts of a plan, and the machines of a run that was joined from them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CellRecord, Environment, RunRecord};

/// Which part of a plan a run is, if several runs share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// The part, from 1.
    pub part: u32,
    /// Parts of the plan.
    pub of: u32,
    /// All blocks of the plan, in its order, with their parts.
    pub blocks: Vec<AssignedBlock>,
    /// All cells of the plan, in its order. Those that are in no block belong to the first part.
    pub cells: Vec<CellRecord>,
}

/// A comparison block and the part that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignedBlock {
    /// The block's name.
    pub name: String,
    /// Its part, from 1.
    pub part: u32,
}

/// Where and when some blocks of a run were timed, if not where the run itself was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OriginRecord {
    /// The part of the plan. `None` if the plan was not shared.
    pub part: Option<u32>,
    /// The run that timed them.
    pub run_id: String,
    /// The seed of the order in which instances took turns.
    pub order_seed: u32,
    /// The hashed id of the machine. `None` if it has none that can be read.
    pub machine_id: Option<String>,
    /// The machine and the program.
    pub environment: Environment,
    /// The names of the blocks.
    pub blocks: Vec<String>,
}

impl PartRecord {
    /// The part that a cell of the plan belongs to.
    pub fn part_of(&self, cell: &CellRecord) -> u32 {
        self.blocks.iter().find(|block| block.name == cell.block).map_or(1, |block| block.part)
    }
}

impl OriginRecord {
    /// The machine in words.
    pub fn machine(&self) -> String {
        machine(self.machine_id.as_deref(), &self.environment, self.part)
    }
}

impl RunRecord {
    /// The machine that timed a block, in words: its hashed id, its processor, the threads and the kernels that were used. Empty
    /// if the block belongs to a part that was missing when the others were joined.
    pub fn machine_of(&self, block: &str) -> String {
        let is_joined = self.part.is_none() && !self.origins.is_empty();
        let own = || machine(self.machine_id.as_deref(), &self.environment, self.part.as_ref().map(|part| part.part));
        let here = || if is_joined { String::new() } else { own() };
        self.origin_of(block).map_or_else(here, OriginRecord::machine)
    }

    /// Where a block was timed, if not where the run itself was.
    pub fn origin_of(&self, block: &str) -> Option<&OriginRecord> {
        self.origins.iter().find(|origin| origin.blocks.iter().any(|name| name == block))
    }

    /// The machines that timed blocks of the run, in words, in the order of its cells.
    pub fn machines(&self) -> Vec<String> {
        let mut machines = vec![];
        for machine in self.cells.iter().map(|cell| self.machine_of(&cell.block)) {
            if !machine.is_empty() && !machines.contains(&machine) {
                machines.push(machine);
            }
        }
        machines
    }

    /// That the run is a part of a plan, in a sentence, if it is one.
    pub fn of_part(&self) -> Option<String> {
        let PartRecord { part, of, cells, .. } = self.part.as_ref()?;
        let (own, all) = (self.cells.len(), cells.len());
        Some(format!("Part {part} of {of} of a plan: {own} of its {all} cells. `runner merge` joins the parts."))
    }
}

fn machine(id: Option<&str>, environment: &Environment, part: Option<u32>) -> String {
    let fact = |name: &str| environment.facts.iter().find(|fact| fact.name == name)?.value.clone();
    let of_part = part.map_or(String::new(), |part| format!(" of part {part}"));
    // Machines that cannot be told apart are not taken for one.
    let id = id.map_or_else(|| format!("an unknown machine{of_part}"), str::to_owned);
    let threads = fact("threads used").map(|threads| if threads == "1" { "1 thread".to_owned() } else { format!("{threads} threads") });
    let kernels = fact("attention kernels").and_then(|kernels| kernels.split_whitespace().next().map(str::to_owned));
    let known: Vec<String> = [fact("CPU"), threads, kernels].into_iter().flatten().collect();
    if known.is_empty() { id } else { format!("{id} ({})", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fact, example};

    fn origin(part: u32, machine_id: Option<&str>, block: &str) -> OriginRecord {
        OriginRecord {
            part: Some(part),
            run_id: String::new(),
            order_seed: 0,
            machine_id: machine_id.map(str::to_owned),
            environment: Environment::default(),
            blocks: vec![block.into()],
        }
    }

    #[test]
    fn a_block_was_timed_where_its_origin_says_or_where_the_run_was() {
        let mut run = example::run();
        for (name, value) in [("threads used", "4"), ("attention kernels", "avx2 (this machine also supports portable)")] {
            run.environment.facts.push(Fact { name: name.into(), value: Some(value.into()), reason: None });
        }
        assert_eq!(run.machine_of("decode 128"), "77ab (a CPU, 4 threads, avx2)");
        assert_eq!(run.machines().len(), 1);
        run.origins = vec![origin(2, Some("88cd"), "decode 128")];
        assert_eq!((run.machine_of("generate 3").as_str(), run.machines()), ("", vec!["88cd".to_owned()]), "joined without a part");
        run.part = Some(PartRecord { part: 2, of: 3, blocks: vec![], cells: vec![] });
        assert_eq!(run.machines(), ["88cd", "77ab (a CPU, 4 threads, avx2)"], "a part that went on elsewhere");
    }

    #[test]
    fn machines_without_an_id_are_not_taken_for_one() {
        let mut run = example::run();
        run.origins = vec![origin(1, None, "decode 128"), origin(2, None, "generate 3")];
        assert_eq!(run.machines(), ["an unknown machine of part 1", "an unknown machine of part 2"]);
    }

    #[test]
    fn a_part_says_that_it_is_one() {
        let mut run = example::run();
        assert_eq!(run.of_part(), None);
        let blocks = vec![AssignedBlock { name: "decode 128".into(), part: 2 }];
        let cells = std::mem::take(&mut run.cells);
        run.cells = vec![cells[0].clone()];
        run.part = Some(PartRecord { part: 2, of: 3, blocks, cells });
        assert_eq!(run.of_part().unwrap(), "Part 2 of 3 of a plan: 1 of its 4 cells. `runner merge` joins the parts.");
        let part = run.part.unwrap();
        assert_eq!(
            part.cells.iter().map(|cell| part.part_of(cell)).collect::<Vec<_>>(),
            [2, 1, 2, 2],
            "what is in no block is the first's"
        );
    }
}
