import ArgumentParser
import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// `smirun bench handoff`.
struct BenchHandoffCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "handoff",
        abstract:
            "Hand-offs as the program inside and a client outside see them, beside plain criu dump, copy, restore."
    )

    @Option(help: "Memory that the program keeps.")
    var size = ByteCount(bytes: 64 << 20)
    @Option(help: "Rate of each host's link, such as 50mbit, or none.")
    var rate = "50mbit"
    @Option(help: "What it changes: idle, a (16 bytes of each page) or b (all of each page).")
    var workload = WorkloadKind.a
    @Option(help: "What memory it keeps: private or shared.")
    var memory = WorkloadMemory.private
    @Option(help: "Pages changed a second.")
    var writeRate = 5000
    @Option(help: "Processes: the program and idle children.")
    var processes = 1
    @Option(help: "Seconds that the program runs between two hand-offs.")
    var settle = 2.0
    @Flag(inversion: .prefixedNo, help: "Hand off to a host whose replica is up to date.")
    var warm = true
    @Flag(inversion: .prefixedNo, help: "Also measure plain CRIU.")
    var plain = true
    @OptionGroup var options: BenchOptions

    func validate() throws {
        guard writeRate > 0, processes > 0, settle >= 1.1 else {
            throw ValidationError("--write-rate and --processes must be at least 1, --settle at least 1.1")
        }
    }

    func run() async throws {
        let program = Workload(
            size: size.bytes,
            writeRate: writeRate,
            kind: workload,
            processes: processes,
            memory: memory
        )
        var report = BenchReport(
            "handoff",
            settings: [
                "size": formatBytes(size.bytes), "rate": rate, "workload": workload.rawValue,
                "memory": memory.rawValue,
                "write-rate": "\(writeRate)", "processes": "\(processes)",
            ]
        )
        // The third host is the client's.
        try await BenchLab.with(hosts: 3, rate: rate, options: options.words) { lab in
            let machine = try await MovingMachine(lab: lab, workload: program)
            defer { machine.close() }
            let peer = plain ? try await offload { try PlainCriu(lab: lab, workload: program) } : nil
            try await peer?.place().setRunning(false)
            for run in 1...options.runs {
                options.say("hand-off \(run) of \(options.runs)")
                try await measure(machine, into: &report)
                if let peer { try await measure(peer, into: &report) }
            }
            try await machine.place.verify()
            try await peer?.place().verify()
            try await offload { try peer?.end() }
        }
        report.compare(("plain criu", Self.frozen), with: ("smirun", Self.frozen))
        report.note("frozen: the longest gap that a thread looking at the clock every 0.2 ms saw, inside")
        report.note("plain criu moves an ordinary process: no namespaces, no rootfs, no network to hold, no client")
        report.note("latest wake-up: of a thread that goes before all others, on each processor, during a hand-off")
        if workload != .idle {
            report.note("speed after: pages changed in the first second after the gap, as a share of --write-rate")
        }
        try options.show(report)
    }

    private static let frozen = "frozen, seen inside"
    private static let wakeup = "latest wake-up"

    private func measure(_ machine: MovingMachine, into report: inout BenchReport) async throws {
        try await machine.place.setRunning(true)
        try await Task.sleep(for: .seconds(settle))
        if warm { try await machine.awaitReplica() }
        let wakeups = WakeupProbe()
        let (moved, seen, blackout) = try await machine.move()
        try await machine.place.setRunning(false)
        add("smirun", seen, &report)
        if moved.mode == "postcopy" {
            let figure = try await machine.awaitWhole(generation: moved.generation)
            report.add("smirun", "late pages", figure("pages"), unit: "")
            report.add("smirun", "  of these waited for", figure("waits"), unit: "")
            report.add("smirun", "  median wait for one", figure("median_wait_ms"))
            report.add("smirun", "  99 % wait no longer than", figure("p99_wait_ms"))
            report.add("smirun", "  longest wait for one", figure("longest_wait_ms"))
        }
        if let latest = wakeups.finish() { report.add("machine", Self.wakeup, latest) }
        report.add("smirun", "blackout, seen by a client", blackout)
        report.add("smirun", "frozen, as reported", moved.frozenMs)
        report.add("smirun", "total", moved.totalMs)
        report.add("smirun", "moved while frozen", Double(moved.residualBytes) / 1e6, unit: "MB")
        report.add("smirun", "over the link", Double(moved.wireBytes) / 1e6, unit: "MB")
        report.add("smirun", "\(moved.replica) replica, \(moved.mode)", 1, unit: "")
        for (phase, time) in moved.phases.sorted(by: { $0.key < $1.key }) {
            report.add("smirun", "  phase \(phase)", time)
        }
    }

    private func measure(_ peer: PlainCriu, into report: inout BenchReport) async throws {
        try await peer.place().setRunning(true)
        try await Task.sleep(for: .seconds(settle))
        _ = try await peer.place().seen()
        let times = try await offload { try peer.move() }
        // The second in which the program's speed is measured.
        try await Task.sleep(for: .milliseconds(1100))
        add("plain criu", try await peer.place().seen(), &report)
        try await peer.place().setRunning(false)
        report.add("plain criu", "over the link", Double(times.bytes) / 1e6, unit: "MB")
        report.add("plain criu", "  phase dump", times.dump)
        report.add("plain criu", "  phase copy", times.copy)
        report.add("plain criu", "  phase restore", times.restore)
    }

    private func add(_ subject: String, _ seen: Workload.Seen, _ report: inout BenchReport) {
        report.add(subject, Self.frozen, seen.gapMs)
        if seen.touchMs > 0 {
            report.add(subject, "reading 5 % of the pages after", seen.touchMs)
            report.add(subject, "  longest single read", seen.longestTouchMs)
        }
        if workload != .idle {
            report.add(subject, "speed after", Double(seen.changedAfter) / Double(writeRate) * 100, unit: "%")
        }
    }
}

/// The machine that is handed off between the first two hosts, and its client on the third.
private final class MovingMachine: Sendable {
    let place: Workload.Place
    private let lab: BenchLab
    private let client: EchoProbe
    private static let user = "bench"
    /// What the program writes again and again, at most, bytes.
    private let restless: Int64

    /// Launches it and waits until it serves.
    init(lab: BenchLab, workload: Workload) async throws {
        self.lab = lab
        // Pages that live rounds leave for the cut count whole: nobody has compressed them yet.
        restless = 1 << 20 + (workload.kind == .idle ? 0 : Int64(workload.writeRate) * 4096)
        place = try await lab.launch(Self.user, size: workload.size, workload.arguments, askedFrom: lab.hosts[2])
        client = try EchoProbe(try await place.connect(Workload.echoPort))
        try await place.setRunning(false)
    }

    func close() {
        client.close()
    }

    /// Has a replica kept on the host that comes next, and waits, with a limit, until it is up to date.
    func awaitReplica() async throws {
        try await lab.awaitReplica(of: Self.user, on: target(), restless: restless, limit: .seconds(600))
    }

    /// The host of the two that it is not on.
    private func target() async throws -> String {
        let view = try await lab.daemon.call(.inspect, UserRequest(user: Self.user), as: SMIView.self)
        return view.host == lab.hosts[0].name ? lab.hosts[1].name : lab.hosts[0].name
    }

    /// Waits, with a limit, until all pages have followed the last hand-off.
    ///
    /// - Returns: the figures of the event that says so, by their names.
    func awaitWhole(generation: Int) async throws -> (String) -> Double {
        let request = EventsRequest(user: Self.user, follow: true)
        let daemon = lab.daemon
        let event = try await within(.seconds(120), "the pages that follow") {
            try await daemon.stream(.events, request, as: EventRecord.self) { event in
                event.kind == "whole" && event.detail["generation"] == "\(generation)" ? event : nil
            }
        }
        return { event?.detail[$0].flatMap { Double($0) } ?? 0 }
    }

    /// Moves it to the other host.
    ///
    /// - Returns: the daemon's report, what the program saw, and the client's longest silence in ms.
    func move() async throws -> (HandoffReport, Workload.Seen, Double) {
        let target = try await target()
        _ = try await place.seen()
        _ = client.takeLongest()
        let request = HandoffRequest(user: Self.user, to: target)
        let report = try await lab.daemon.stream(.handoff, request, as: HandoffProgress.self) { $0.report }
        guard let report else {
            throw OrchestratorError(
                .handoffFailed,
                cause: "no report of the hand-off",
                remedy: "look at the daemons' logs"
            )
        }
        // The second in which the program's speed is measured; TCP may take longer to try again after a long silence.
        try await Task.sleep(for: .milliseconds(1100))
        try await client.awaitProgress(limit: .seconds(180))
        return (report, try await place.seen(), client.takeLongest())
    }
}
