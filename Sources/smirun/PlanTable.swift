import Foundation
import Orchestrator

/// A replica plan as `smirun inspect` prints it.
struct PlanTable {
    private let plan: ReplicaPlanView

    init(_ plan: ReplicaPlanView) {
        self.plan = plan
    }

    /// Prints where replicas are wanted, how fresh, by when and why.
    func print() {
        let stays = String(format: "%.0f", plan.stationary * 100)
        let held = plan.holdHandoff ? "; the hand-off waits for the user to stay" : ""
        Swift.print("\nplan of \(time(plan.madeAt)) at \(plan.ap): the user stays with \(stays) %\(held)")
        let replicas = plan.replicas.map {
            [$0.host, $0.freshness, time($0.startLiveAt), time($0.neededAt), $0.why.joined(separator: "; ")]
        }
        let without = plan.without.map { [$0.host, "none", "-", "-", $0.why] }
        if replicas.isEmpty, without.isEmpty { return Swift.print("no replica is wanted anywhere") }
        printTable(["REPLICA ON", "FRESHNESS", "LIVE FROM", "NEEDED BY", "WHY"], replicas + without)
    }

    private func time(_ seconds: Double?) -> String {
        guard let seconds else { return "-" }
        let formatter = DateFormatter()
        formatter.dateFormat = "HH:mm:ss"
        return formatter.string(from: Date(timeIntervalSince1970: seconds))
    }
}
