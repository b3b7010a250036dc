import ArgumentParser
import Foundation
import Mobility
import Orchestrator

/// `smirun roam USER AP [--at TIME]` and `smirun roam --replay FILE [--speed X]`.
struct RoamCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roam",
        abstract: "Say that a user is at an access point now, or play a trace back.",
        discussion: """
            A trace is CSV with a header (day,t_s,user,ap,event,rssi_dbm) or JSON lines; - is standard input. Its times
            space the lines; the daemon's clock dates them.
            """
    )

    @Argument(help: "The user, who has a machine.")
    var user: String?
    @Argument(help: "The access point, one of `smirun ap ls`.")
    var ap: String?
    @Option(help: "When: seconds since 1970, or 2026-01-31T12:00:00Z.")
    var at: String?
    @Option(help: "Play back this file.")
    var replay: String?
    @Option(help: "How many times as fast as it was; 0 does not wait at all.")
    var speed = 1.0
    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        guard (replay == nil) == (user != nil && ap != nil), replay == nil || user == nil else {
            throw ValidationError("give USER and AP, or --replay FILE")
        }
        guard speed >= 0, speed.isFinite else { throw ValidationError("--speed takes a number from 0") }
        guard at == nil || replay == nil else { throw ValidationError("--at goes with USER and AP") }
        guard at == nil || time != nil else {
            throw ValidationError("--at takes seconds since 1970 or an ISO 8601 time")
        }
    }

    func run() async throws {
        if let user, let ap {
            _ = try await daemon.call(.roam, RoamRequest(user: user, ap: ap, at: time), as: RoamReply.self)
            return
        }
        guard let replay else { return }
        let socket = daemon.controlSocket
        let player = RoamReplay(speed: speed == 0 ? .infinity : speed)
        let (summary, tally) = try await ControlConnection.with(socket: socket, build: buildVersion) { connection in
            var tally = ReplayTally(file: replay)
            let summary = try await player.run(file: replay) { line in
                let request = RoamRequest(user: line.user, ap: line.ap, kind: line.kind, isReplayed: true)
                do {
                    let reply = try await connection.call(.roam, encode(request))
                    tally.played(line, hasMachine: try decode(RoamReply.self, reply).hasMachine)
                } catch let error as OrchestratorError where error.code == .accessPointUnknown {
                    tally.refused(error)
                }
            }
            return (summary, tally)
        }
        print(tally.text)
        try tally.complain(summary)
    }

    private var time: Double? {
        guard let at else { return nil }
        return Double(at) ?? (try? Date(at, strategy: .iso8601))?.timeIntervalSince1970
    }
}

/// What became of a trace's lines.
private struct ReplayTally: Sendable {
    let file: String
    private var lines = 0
    private var strangers: Set<String> = []
    private var refusals = 0
    private var firstRefusal: OrchestratorError?

    init(file: String) {
        self.file = file
    }

    mutating func played(_ line: RoamLine, hasMachine: Bool) {
        lines += 1
        if !hasMachine { strangers.insert(line.user) }
    }

    mutating func refused(_ error: OrchestratorError) {
        refusals += 1
        if firstRefusal == nil { firstRefusal = error }
    }

    var text: String {
        let others =
            strangers.isEmpty ? "" : "; \(strangers.count) of its users without a machine, only learned from"
        return "\(lines) lines played\(others)"
    }

    /// A trace that was not played whole is an error, told once at its end.
    func complain(_ summary: RoamReplay.Summary) throws {
        if let line = summary.firstMalformed {
            throw RoamingError(
                .trace,
                cause: "\(summary.malformed) lines of \(file) could not be read, the first is line \(line)",
                remedy: "a line has user, ap and, if wanted, day, t_s, event (start, roam or stop) and rssi_dbm"
            )
        }
        if let firstRefusal {
            throw OrchestratorError(
                firstRefusal.code,
                cause: "\(refusals) lines of \(file) were refused, the first because \(firstRefusal.cause)",
                remedy: firstRefusal.remedy
            )
        }
    }
}
