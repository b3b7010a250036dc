import Foundation
import Orchestrator

/// One hand-off of the demo.
struct DemoStep: Encodable, Sendable {
    let accessPoint: String
    let report: HandoffReport
    /// The longest pause that the workload itself saw, ms.
    let insidePauseMs: Double
    /// The longest silence that the TCP client saw, ms.
    let clientGapMs: Double

    init(accessPoint: String, report: HandoffReport, status: DemoStatus, client: DemoClient.Observed) {
        self.accessPoint = accessPoint
        self.report = report
        insidePauseMs = status.longestPauseMs
        clientGapMs = client.longestGapMs
    }

    enum CodingKeys: String, CodingKey {
        case report
        case accessPoint = "ap"
        case insidePauseMs = "inside_pause_ms"
        case clientGapMs = "client_gap_ms"
    }
}

/// What the demo has found.
struct DemoResult: Encodable, Sendable {
    let rate: String
    private(set) var steps: [DemoStep] = []
    /// Everything that was lost or changed; empty when all went well.
    private(set) var faults: [String] = []

    /// The paper's estimates: flush at a hand-off, page-in after it, and their share of a walking user's time.
    private static let paperFlushMs = 4820.0
    private static let paperPageInMs = 1850.0
    private static let paperShare = 0.107

    init(rate: String) {
        self.rate = rate
    }

    mutating func add(_ step: DemoStep, faults: [String]) {
        steps.append(step)
        self.faults += faults.map { "\(step.accessPoint): \($0)" }
    }

    /// The table for people.
    var table: String {
        // The paper's share and sum give the time that its walking user stays at one access point.
        let stay = (Self.paperFlushMs + Self.paperPageInMs) / Self.paperShare
        func row(_ cells: [String]) -> String {
            let widths = [24, 12, 14, 12, 12, 12]
            return zip(cells, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined()
        }
        func share(_ ms: Double?) -> String { ms.map { String(format: "%.2f %%", $0 / stay * 100) } ?? "-" }
        var lines = [
            "",
            "64 MB of memory, links of \(rate); all times in ms",
            row(["hand-off", "frozen", "inside saw", "blackout", "total", "user's time"]),
        ]
        for step in steps {
            lines.append(
                row([
                    "\(step.report.from) -> \(step.report.to) (\(step.accessPoint))", formatMs(step.report.frozenMs),
                    formatMs(step.insidePauseMs), formatMs(step.clientGapMs), formatMs(step.report.totalMs),
                    share(step.clientGapMs),
                ])
            )
        }
        lines.append(row(["the 2003 paper", "4820", "", "6670", "", "10.70 %"]))
        lines.append("")
        lines.append(
            faults.isEmpty
                ? "pid, memory, log file, clocks, shell and TCP stream are as they were after each hand-off"
                : "LOST:\n" + faults.map { "  " + $0 }.joined(separator: "\n")
        )
        return lines.joined(separator: "\n")
    }
}
