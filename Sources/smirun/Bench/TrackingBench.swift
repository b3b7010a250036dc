import ArgumentParser
import Foundation
import Orchestrator

/// `smirun bench tracking`.
struct BenchTrackingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tracking",
        abstract: "What a replica on another host costs a program that writes its memory steadily."
    )

    @Option(help: "Memory that the program keeps.")
    var size = ByteCount(bytes: 64 << 20)
    @Option(help: "Memory that it writes a second, counted in whole pages.")
    var writeRate = ByteCount(bytes: 10 << 20)
    @Option(help: "What it writes of each page: a (16 bytes), b (all of it), or idle (it writes none).")
    var workload = WorkloadKind.b
    @Option(help: "Seconds that it is watched for, with and without a replica.")
    var period = 5.0
    @Option(help: "How often it is watched with a replica, each time between two without.")
    var pairs = 10
    @OptionGroup var words: BenchWords

    func validate() throws {
        guard pairs > 0, period > 0 else { throw ValidationError("--pairs and --period must be more than 0") }
        guard writeRate.bytes >= 4096 else { throw ValidationError("--write-rate must be at least 4096") }
    }

    func run() async throws {
        let program = Spinner(size: size.bytes, pagesPerSecond: Int(writeRate.bytes / 4096), kind: workload)
        var report = BenchReport(
            "tracking",
            settings: [
                "size": formatBytes(size.bytes), "write-rate": formatBytes(writeRate.bytes) + "/s",
                "workload": workload.rawValue, "period": "\(period) s",
            ]
        )
        try await BenchLab.with(hosts: 2, options: words) { lab in
            let machine = try await SpinningMachine(lab: lab, program: program)
            var before = try await machine.watch(for: period)
            for pair in 1...pairs {
                words.say("pair \(pair) of \(pairs)")
                try await machine.addReplica()
                let with = try await machine.watch(for: period)
                try await machine.removeReplica()
                let after = try await machine.watch(for: period)
                add("replica", with, &report)
                add("no replica", after, &report)
                addLoss(with, before, after, &report)
                before = after
            }
            report.note(
                machine.isPinned
                    ? "the program's counting thread is kept on one processor, which daemons and others use, too"
                    : "the program's counting thread runs on whatever processor there is"
            )
        }
        report.note("loss: what was counted with a replica, beside the mean of the times before and after it")
        report.note("counts a second of processor time leave out what the thread did not get, as others ran")
        report.note("more for its writes: the faults of the first write to a page after a round, seen write by write")
        report.note("processor time of daemons: of one processor; /proc/PID/stat counts it in steps of 10 ms")
        try words.show(report)
    }

    private func add(_ subject: String, _ spell: Spell, _ report: inout BenchReport) {
        report.add(subject, "counts a second", spell.countsPerSecond / 1e6, unit: "M")
        report.add(subject, "counts a second of processor time", spell.countsPerProcessorSecond / 1e6, unit: "M")
        report.add(subject, "processor time that the program had", spell.processorShare, unit: "%")
        report.add(subject, "pages written a second", spell.pagesPerSecond, unit: "")
        report.add(subject, "time that a write took", spell.pageTime, unit: "µs")
        report.add(subject, "owner's daemon, processor time", spell.owner, unit: "%")
        report.add(subject, "other daemon, processor time", spell.other, unit: "%")
        guard let rounds = spell.roundsPerSecond else { return }
        report.add(subject, "rounds a second", rounds, unit: "")
        report.add(subject, "written and not sent at the end", spell.behind, unit: "MB")
        report.add(subject, "pages written a round", rounds > 0 ? spell.pagesPerSecond / rounds : nil, unit: "")
    }

    private func addLoss(_ with: Spell, _ before: Spell, _ after: Spell, _ report: inout BenchReport) {
        func loss(_ figure: (Spell) -> Double) -> Double {
            (1 - figure(with) / ((figure(before) + figure(after)) / 2)) * 100
        }
        report.add("replica", "loss of counts a second", loss(\.countsPerSecond), unit: "%")
        report.add(
            "replica",
            "loss of counts a second of processor time",
            loss(\.countsPerProcessorSecond),
            unit: "%"
        )
        guard let one = with.pageTime, let other = before.pageTime, let another = after.pageTime else { return }
        let more = (one - (other + another) / 2) * with.pagesPerSecond / 1e6 * 100
        report.add("replica", "more of a processor for its writes", more, unit: "%")
    }
}

/// The program that counts (images/bench/spin.c).
private struct Spinner: Sendable {
    let size: Int64
    let pagesPerSecond: Int
    let kind: WorkloadKind

    var arguments: [String] {
        ["spin", "\(size)", "\(pagesPerSecond)", kind.rawValue, "\(Workload.questionPort)"]
    }

    /// Seconds in which it writes every page once.
    var turn: Double { kind == .idle ? 0 : Double(size) / 4096 / Double(pagesPerSecond) }
}

/// How far the program, the daemons and the replica are at one moment.
private struct Progress: Sendable {
    struct Counted: Decodable, Sendable {
        let counts: Int
        let pages: Int
        /// Nanoseconds.
        let wall: Int
        let processor: Int
        let writing: Int
        let pinned: Bool

        enum CodingKeys: String, CodingKey {
            case counts, pages, pinned
            case wall = "wall_ns"
            case processor = "processor_ns"
            case writing = "writing_ns"
        }
    }

    let counted: Counted
    let owner: DaemonUse
    let other: DaemonUse
    /// Nil where there is none.
    let replica: ReplicaView?
}

/// What happened between two moments.
private struct Spell: Sendable {
    let countsPerSecond: Double
    let countsPerProcessorSecond: Double
    /// What the counting thread had of one processor, %.
    let processorShare: Double
    let pagesPerSecond: Double
    /// What one page took to write, µs of processor time.
    let pageTime: Double?
    /// What the daemons took of one processor, %.
    let owner: Double
    let other: Double
    let roundsPerSecond: Double?
    /// What rounds have seen and not sent at the end, MB.
    let behind: Double?

    init(from start: Progress, to end: Progress) {
        let counts = Double(end.counted.counts - start.counted.counts)
        let wall = Double(end.counted.wall - start.counted.wall) / 1e9
        let processor = Double(end.counted.processor - start.counted.processor) / 1e9
        countsPerSecond = counts / wall
        countsPerProcessorSecond = counts / processor
        processorShare = processor / wall * 100
        let pages = Double(end.counted.pages - start.counted.pages)
        pagesPerSecond = pages / wall
        pageTime = pages > 0 ? Double(end.counted.writing - start.counted.writing) / 1e3 / pages : nil
        owner = end.owner.processorShare(since: start.owner, seconds: wall)
        other = end.other.processorShare(since: start.other, seconds: wall)
        if let first = start.replica, let last = end.replica {
            roundsPerSecond = Double(last.epoch - min(first.epoch, last.epoch)) / wall
        } else {
            roundsPerSecond = nil
        }
        behind = end.replica.map { Double($0.bytesBehind) / 1e6 }
    }
}

/// The machine with the program, and whether it has a replica on the second host.
private struct SpinningMachine: Sendable {
    private static let user = "bench"
    /// Seconds after its launch in which the program comes to rest.
    private static let settling = 2.0
    /// Seconds until rounds are as often as they stay: the first ones find all memory written, and the next follow late.
    private static let pacing = 10.0
    /// Most seconds between two rounds: what is written meanwhile is always behind.
    private static let longestRound: Int64 = 5
    /// Seconds for which rounds may go on after the last replica was removed, and some.
    private static let lastRounds = 3.0

    let isPinned: Bool
    private let lab: BenchLab
    private let program: Spinner
    private let place: Workload.Place
    private var other: LabStatus.Host { lab.hosts[1] }

    /// Launches it, moves it there and back again, and waits until it counts.
    init(lab: BenchLab, program: Spinner) async throws {
        self.lab = lab
        self.program = program
        place = try await lab.launch(Self.user, size: program.size, program.arguments, askedFrom: lab.hosts[1])
        // It has followed its user before: its links are known, and its memory has come in from a backing file.
        try await place.setRunning(false)
        try await lab.move(Self.user, from: lab.hosts[0].name, to: lab.hosts[1].name)
        try await lab.move(Self.user, from: lab.hosts[1].name, to: lab.hosts[0].name)
        try await place.setRunning(true)
        // A page that came in with the hand-off costs its first write a fault, too.
        try await Task.sleep(for: .seconds(Self.settling + program.turn))
        isPinned = try await Self.counted(place).pinned
    }

    /// Has a replica kept, and waits until it is up to date and all is as it will stay.
    func addReplica() async throws {
        let restless = 1 << 20 + Int64(program.pagesPerSecond) * 4096 * Self.longestRound
        try await lab.awaitReplica(of: Self.user, on: other.name, restless: restless, limit: .seconds(60))
        try await Task.sleep(for: .seconds(Self.pacing))
    }

    /// Has none kept, and waits until every page that the last round has protected was written once more.
    func removeReplica() async throws {
        try await lab.removeReplica(of: Self.user, on: other.name)
        try await Task.sleep(for: .seconds(Self.lastRounds + program.turn))
    }

    /// What happens in so many seconds.
    func watch(for seconds: Double) async throws -> Spell {
        let start = try await progress()
        try await Task.sleep(for: .seconds(seconds))
        return Spell(from: start, to: try await progress())
    }

    private func progress() async throws -> Progress {
        Progress(
            counted: try await Self.counted(place),
            owner: try lab.hosts[0].daemonUse(),
            other: try other.daemonUse(),
            replica: try await lab.replica(of: Self.user, on: other.name)
        )
    }

    private static func counted(_ place: Workload.Place) async throws -> Progress.Counted {
        try decode(Progress.Counted.self, try await place.ask("s"))
    }
}
