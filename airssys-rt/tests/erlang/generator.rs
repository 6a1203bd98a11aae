//! Random scenarios; a seed means the same scenario everywhere.

use super::scenario::{Command, Group, Kind, Node, Operation, Scenario, Stop};

/// An intensity no scenario exhausts.
const PATIENT: u32 = 1000;
const DEPTH: usize = 3;

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        usize::try_from(z % bound as u64).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// A supervisor as the generator knows it; the tree itself may have moved on.
#[derive(Clone)]
struct Known {
    path: String,
    node: Node,
    group: Group,
    children: Vec<Node>,
    /// A child may have been deleted and added again, so that the order above is not the real one.
    moved: bool,
    /// Its flags may be other ones by now.
    upgraded: bool,
    /// Starts of its children are ignored.
    ignoring: bool,
}

impl Known {
    fn dynamic(&self) -> bool {
        self.group.strategy == "simple_one_for_one"
    }

    /// Its children are stopped one at a time, and the next attempt waits for that.
    fn grouped(&self) -> bool {
        let strategy = self.group.strategy;
        matches!(strategy, "one_for_all" | "rest_for_one")
    }

    /// The child and those that are started after it; nobody where the order is not known.
    fn from(&self, id: &str) -> &[Node] {
        match self.children.iter().position(|child| child.id == id) {
            Some(at) if !self.moved => &self.children[at..],
            _ => &[],
        }
    }

    fn workers(&self) -> Vec<String> {
        self.children
            .iter()
            .filter(|child| matches!(child.kind, Kind::Worker { .. }))
            .map(|child| child.id.clone())
            .collect()
    }
}

struct Generator {
    dice: Dice,
    known: Vec<Known>,
    operations: Vec<Operation>,
    fresh: usize,
}

/// The scenario of this seed: a tree, 5 to 40 operations, and the stop of the root.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut generator = Generator {
        dice: Dice(seed),
        known: Vec::new(),
        operations: Vec::new(),
        fresh: 0,
    };
    let mut root = generator.supervisor("root".into(), 1);
    root.restart = "permanent";
    root.significant = false;
    root.shutdown = Stop::Infinity;
    if let Kind::Supervisor(group) = &mut root.kind
        && generator.dice.percent(50)
    {
        // The end of the root is the end of the scenario.
        group.intensity = PATIENT;
    }
    generator.learn("root".into(), &root);
    if generator.dice.percent(3) {
        generator.fail();
    }
    generator.operations.push(Operation::Start(root));
    let count = 5 + generator.dice.below(36);
    while generator.operations.len() < count {
        generator.operation();
    }
    generator.operations.push(Operation::Stop);
    Scenario {
        seed,
        operations: generator.operations,
    }
}

impl Generator {
    fn supervisor(&mut self, id: String, depth: usize) -> Node {
        let strategy = if depth > 1 && self.dice.percent(15) {
            "simple_one_for_one"
        } else {
            self.dice
                .pick(&["one_for_one", "one_for_all", "rest_for_one"])
        };
        let dynamic = strategy == "simple_one_for_one";
        // OTP 25 accepts it for dynamic supervisors; later ones and ours do not.
        let auto_shutdown = if !dynamic && self.dice.percent(40) {
            self.dice.pick(&["any_significant", "all_significant"])
        } else {
            "never"
        };
        let count = if dynamic { 1 } else { 1 + self.dice.below(6) };
        let mut children = Vec::new();
        for index in 0..count {
            let nested = !dynamic && depth < DEPTH && self.dice.percent(30);
            let mut child = if nested {
                self.supervisor(format!("s{index}"), depth + 1)
            } else {
                self.worker(format!("w{index}"))
            };
            self.mark_significant(&mut child, auto_shutdown);
            children.push(child);
        }
        let intensity = self.dice.pick(&[0, 1, 1, 2, 3, 5, PATIENT, PATIENT]);
        // A killed supervisor leaves its children to end when they learn of it, in an order nobody
        // promises; so supervisors are given time.
        let shutdown = self.dice.pick(&[Stop::Infinity, Stop::Millis(5000)]);
        Node {
            id,
            restart: self
                .dice
                .pick(&["permanent", "permanent", "transient", "temporary"]),
            shutdown,
            significant: false,
            kind: Kind::Supervisor(Group {
                strategy,
                intensity,
                auto_shutdown,
                children,
            }),
        }
    }

    fn worker(&mut self, id: String) -> Node {
        let stubborn = self.dice.percent(8);
        let shutdown = match self.dice.below(4) {
            0 => Stop::Brutal,
            _ if stubborn => Stop::Millis(1),
            1 => Stop::Infinity,
            _ => Stop::Millis(5000),
        };
        Node {
            id,
            restart: self
                .dice
                .pick(&["permanent", "permanent", "transient", "temporary"]),
            shutdown,
            significant: false,
            kind: Kind::Worker { stubborn },
        }
    }

    /// Only where the supervisor accepts it.
    fn mark_significant(&mut self, child: &mut Node, auto_shutdown: &str) {
        let valid = auto_shutdown != "never" && child.restart != "permanent";
        child.significant = valid && self.dice.percent(50);
    }

    /// Once in a while also where the supervisor refuses it.
    fn mark_added(&mut self, child: &mut Node, auto_shutdown: &str) {
        self.mark_significant(child, auto_shutdown);
        child.significant |= self.dice.percent(4);
    }

    fn learn(&mut self, path: String, node: &Node) {
        let Kind::Supervisor(group) = &node.kind else {
            return;
        };
        self.known.push(Known {
            path: path.clone(),
            node: node.clone(),
            group: group.clone(),
            children: group.children.clone(),
            moved: false,
            upgraded: false,
            ignoring: false,
        });
        if group.strategy != "simple_one_for_one" {
            for child in &group.children {
                self.learn(format!("{path}/{}", child.id), child);
            }
        }
    }

    fn any(&mut self) -> usize {
        self.dice.below(self.known.len())
    }

    fn operation(&mut self) {
        match self.dice.below(100) {
            0..26 => self.exit(1),
            26..38 => {
                let count = 2 + self.dice.below(2);
                self.exit(count);
            }
            38..50 => {
                let at = self.fail();
                if self.dice.percent(70) {
                    let count = 1 + self.dice.below(3);
                    self.exit_at(at, count);
                }
            }
            50..60 => self.gate(),
            60..64 => self.ignore(),
            _ => {
                let at = self.any();
                let command = self.command(at);
                self.operations.push(Operation::Command(command));
            }
        }
    }

    fn exit(&mut self, count: usize) {
        let at = self.any();
        self.exit_at(at, count);
    }

    fn exit_at(&mut self, at: usize, count: usize) {
        let mut workers = self.known[at].workers();
        let mut exits = Vec::new();
        while exits.len() < count && !workers.is_empty() {
            let worker = workers.swap_remove(self.dice.below(workers.len()));
            let reason = self
                .dice
                .pick(&["crash", "crash", "crash", "kill", "normal", "shutdown"]);
            exits.push((worker, reason));
        }
        if !exits.is_empty() {
            let path = self.known[at].path.clone();
            self.operations.push(Operation::Exit(path, exits));
        }
    }

    /// Returns whose worker is to fail.
    fn fail(&mut self) -> usize {
        let at = self.any();
        let workers = self.known[at].workers();
        if !workers.is_empty() {
            let path = format!("{}/{}", self.known[at].path, self.dice.pick(&workers));
            let times = self.dice.pick(&[1, 1, 1, 2, 2, 3, 5, 7]);
            self.operations.push(Operation::Fail(path, times));
        }
        at
    }

    /// Not for the restart of a dynamic child: OTP 25 keeps such a child without a process, and its
    /// supervisor crashes when it ends. Nor along with a change of code, which brings temporary
    /// children that do not run: asked to start one and ignored, OTP keeps it and ours does not.
    fn ignore(&mut self) {
        let at = self.any();
        if self.known[at].dynamic() || self.known[at].upgraded {
            return;
        }
        self.known[at].ignoring = true;
        let workers = self.known[at].workers();
        if !workers.is_empty() {
            let path = format!("{}/{}", self.known[at].path, self.dice.pick(&workers));
            self.operations.push(Operation::Ignore(path, 1));
        }
    }

    /// Only under a supervisor that is patient and does not shut down by itself, which is not known of
    /// one that was changed: one that ends meanwhile has no mailbox to lie in.
    fn gate(&mut self) {
        let at = self.any();
        let known = self.known[at].clone();
        let workers = known.workers();
        let stays = known.group.intensity == PATIENT
            && known.group.auto_shutdown == "never"
            && !known.upgraded;
        if !stays || known.dynamic() || workers.is_empty() {
            return;
        }
        let id = self.dice.pick(&workers);
        if self.dice.percent(25) {
            return self.gate_of_success(known, id);
        }
        let times = self.dice.pick(&[1, 2, 3]);
        let path = format!("{}/{id}", known.path);
        self.operations.push(Operation::Fail(path, times));
        let mut commands: Vec<Command> = (0..self.dice.below(3))
            .map(|_| self.refused_command(&known, &id))
            .collect();
        // One at most, and last: commands that come from different callers, each before the answer
        // to the other, have no order among themselves.
        if self.dice.percent(60) {
            let child = self.one_of(&known, &id);
            let path = known.path.clone();
            let last = match self.dice.below(6) {
                0..3 => Command::Terminate(path, child),
                3 => Command::Restart(path, child),
                4 => Command::Delete(path, child),
                _ => match self.end_of(&known, &id) {
                    Some(end) => {
                        // A stop overtakes what waits in the mailbox of a ractor actor.
                        commands.clear();
                        end
                    }
                    None => Command::Terminate(path, child),
                },
            };
            commands.push(last);
        }
        self.operations
            .push(Operation::Gate(known.path, id, "fail", commands));
    }

    /// Mostly the child itself. Where the others have nothing to do with it, ours lets the end of one
    /// of them and the next attempt go on at the same time.
    fn one_of(&mut self, known: &Known, id: &str) -> String {
        if known.grouped() && self.dice.percent(35) {
            self.dice.pick(&known.children).id
        } else {
            id.into()
        }
    }

    /// In OTP every command waits for the start. In ours the end of the child does, and in a group
    /// every command.
    fn gate_of_success(&mut self, known: Known, id: String) {
        let path = known.path.clone();
        let child = self.one_of(&known, &id);
        let command = match self.dice.below(4) {
            0 if known.grouped() => Command::Restart(path, child),
            1 if known.grouped() => Command::Delete(path, child),
            _ => Command::Terminate(path, child),
        };
        self.operations
            .push(Operation::Gate(known.path, id, "go", vec![command]));
    }

    /// The end of the supervisor itself, asked of its parent while the restart is under way. Where
    /// later siblings run meanwhile, ours does not let them wait for the restart either.
    fn end_of(&self, known: &Known, id: &str) -> Option<Command> {
        let last = known.from(id).len() == 1;
        let (parent, own_id) = known.path.rsplit_once('/')?;
        let alone = last || known.grouped();
        alone.then(|| Command::Terminate(parent.into(), own_id.into()))
    }

    /// A question, or a command that is refused while `id` is restarting.
    fn refused_command(&mut self, known: &Known, id: &str) -> Command {
        let path = known.path.clone();
        match self.dice.below(5) {
            0 => Command::Which(path),
            1 => Command::Count(path),
            2 => Command::Add(path, self.worker(id.into())),
            3 => Command::Restart(path, id.into()),
            _ => Command::Delete(path, id.into()),
        }
    }

    fn command(&mut self, at: usize) -> Command {
        let known = self.known[at].clone();
        let path = known.path.clone();
        if known.dynamic() {
            return self.dynamic_command(at);
        }
        let id = self.child_id(&known);
        match self.dice.below(40) {
            0..10 => self.add(at),
            10..22 => Command::Terminate(path, id),
            22..30 => Command::Restart(path, id),
            30..36 => Command::Delete(path, id),
            36..39 if !known.ignoring => Command::Upgrade(path, self.changed(at)),
            _ => Command::Which(path),
        }
    }

    fn dynamic_command(&mut self, at: usize) -> Command {
        let path = self.known[at].path.clone();
        if self.dice.percent(8) {
            return Command::Upgrade(path, self.changed_template(at));
        }
        if self.dice.percent(60) {
            self.fresh += 1;
            let key = format!("d{}", self.fresh);
            let mut child = self.known[at].group.children[0].clone();
            child.id = key.clone();
            self.known[at].children.push(child);
            if self.dice.percent(15) {
                let ignored = format!("{path}/{key}");
                self.operations.push(Operation::Ignore(ignored, 1));
            }
            Command::Spawn(path, key)
        } else {
            let key = self.dice.pick(&self.known[at].children).id;
            Command::Drop(path, key)
        }
    }

    /// The supervisor with another intensity and template. Temporary stays temporary and the manner
    /// what it was: OTP keeps what the children that run were started with, or that nothing is kept.
    fn changed_template(&mut self, at: usize) -> Node {
        let known = self.known[at].clone();
        let mut group = known.group;
        if group.intensity != PATIENT {
            group.intensity = self.dice.pick(&[0, 1, 2, 3, 5]);
        }
        group.children.truncate(1);
        for template in &mut group.children {
            if template.restart != "temporary" {
                template.restart = self.dice.pick(&["permanent", "transient"]);
            }
            template.shutdown = self.dice.pick(&[Stop::Brutal, Stop::Millis(50)]);
        }
        Node {
            kind: Kind::Supervisor(group),
            ..known.node
        }
    }

    /// Mostly a child that is known.
    fn child_id(&mut self, known: &Known) -> String {
        if self.dice.percent(92) {
            self.dice.pick(&known.children).id
        } else {
            "unknown".into()
        }
    }

    /// A child that is there already, perhaps with another restart type, or a new one.
    fn add(&mut self, at: usize) -> Command {
        let known = self.known[at].clone();
        if self.dice.percent(55) {
            self.known[at].moved = true;
            let mut child = self.dice.pick(&known.children);
            if matches!(child.kind, Kind::Worker { .. }) {
                child = self.worker(child.id);
            }
            self.mark_added(&mut child, known.group.auto_shutdown);
            return Command::Add(known.path, child);
        }
        self.fresh += 1;
        let depth = known.path.split('/').count() + 1;
        let mut child = if depth <= DEPTH && self.dice.percent(30) {
            self.supervisor(format!("n{}", self.fresh), depth)
        } else {
            self.worker(format!("n{}", self.fresh))
        };
        self.mark_added(&mut child, known.group.auto_shutdown);
        let path = format!("{}/{}", known.path, child.id);
        self.learn(path.clone(), &child);
        self.known[at].children.push(child.clone());
        if self.dice.percent(20) {
            let mut first = (path, &child);
            while let Kind::Supervisor(group) = &first.1.kind {
                let below = &group.children[self.dice.below(group.children.len())];
                first = (format!("{}/{}", first.0, below.id), below);
            }
            self.operations.push(Operation::Fail(first.0, 1));
        }
        Command::Add(known.path, child)
    }

    /// The supervisor with other flags, and with its children changed, added to and left out.
    fn changed(&mut self, at: usize) -> Node {
        let known = self.known[at].clone();
        self.known[at].moved = true;
        self.known[at].upgraded = true;
        let mut group = known.group;
        if group.intensity != PATIENT && self.dice.percent(50) {
            group.intensity = self.dice.pick(&[0, 1, 2, 3, 5]);
        }
        group.strategy = self
            .dice
            .pick(&["one_for_one", "one_for_all", "rest_for_one"]);
        group.auto_shutdown = self
            .dice
            .pick(&["never", "any_significant", "all_significant"]);
        group.children.retain(|_| self.dice.percent(75));
        for child in &mut group.children {
            if matches!(child.kind, Kind::Worker { .. }) {
                *child = self.worker(child.id.clone());
                // The one that runs may be stubborn whatever the new spec says.
                child.shutdown = self.dice.pick(&[Stop::Brutal, Stop::Millis(50)]);
            }
            self.mark_added(child, group.auto_shutdown);
        }
        if self.dice.percent(30) {
            self.fresh += 1;
            let new = self.worker(format!("n{}", self.fresh));
            self.known[at].children.push(new.clone());
            group.children.push(new);
        }
        Node {
            kind: Kind::Supervisor(group),
            ..known.node
        }
    }
}
