import Testing

@testable import Mobility

@Suite struct ReplicaPlanTests {
    private func prediction(
        _ expected: [(String, Double)],
        moving: Double = 0.95,
        flap: Bool = false,
        time: Double = 0
    ) -> Prediction {
        Prediction(
            user: "u",
            ap: "a",
            previous: "p",
            time: time,
            next: expected.map { .init(ap: $0.0, probability: $0.1, eta: 20, interval: 12...40) },
            movingProbability: moving,
            isFlap: flap,
            horizons: [(5, expected.map { .init(ap: $0.0, weight: $0.1) })]
        )
    }

    private func input(_ hosts: [String: ReplicaPlanInput.Host] = [:], dirty: Double = 1e5) -> ReplicaPlanInput {
        ReplicaPlanInput(
            owner: "a",
            previousOwner: "p",
            bytes: 6_250_000,
            dirtyBytesPerSecond: dirty,
            linkBytesPerSecond: 6_250_000,
            hosts: hosts
        )
    }

    private let likely = [("b", 0.6), ("c", 0.2), ("d", 0.1), ("e", 0.08), ("f", 0.01)]

    @Test func giveReplicasToTheLikeliestHostsAndKeepsThePreviousOne() {
        var planner = ReplicaPlanner()
        let plan = planner.plan(prediction(likely), map: APMap(), input: input())
        #expect(plan.entries.map(\.host) == ["b", "c", "d", "p"])
        #expect(plan.entries.last?.reasons == [.previousHost])
        #expect(plan.entries.first?.reasons == [.expected(share: 0.6, seconds: 20)])
        #expect(plan.passed.map(\.host) == ["e", "f"])
        #expect(plan.passed.map(\.reason) == [.replicaLimit(share: 0.08), .unlikely(share: 0.01)])
    }

    @Test func startsLiveRoundsInTimeForTheEarliestHandoff() throws {
        var planner = ReplicaPlanner()
        let plan = planner.plan(prediction(likely), map: APMap(), input: input(dirty: 0))
        // One second to replicate, half as much again for safety, twelve seconds to the earliest hand-off.
        #expect(abs(try #require(plan.entries[0].startLiveIn) - 10.5) < 1e-6)
        #expect(plan.entries[0].neededIn == 12)
        #expect(plan.entries[0].replicationSeconds == 1)
        #expect(plan.entries.last?.startLiveIn == nil && plan.entries.last?.neededIn == nil)
        let slow = planner.plan(
            prediction(likely),
            map: APMap(),
            input: input(["b": .init(bytesPerSecond: 100_000)], dirty: 0)
        )
        #expect(slow.entries[0].startLiveIn == 0)
    }

    @Test func leavesAStationaryUserAlone() {
        var planner = ReplicaPlanner()
        let plan = planner.plan(prediction(likely, moving: 0.1), map: APMap(), input: input())
        #expect(plan.entries.map(\.host) == ["p"])
        #expect(plan.entries.map(\.freshness) == [.kept])
        #expect(plan.passed.allSatisfy { if case .userStays = $0.reason { true } else { false } })
    }

    @Test func keepsWhatWasWantedUntilTheFlapIsOver() {
        var planner = ReplicaPlanner()
        _ = planner.plan(prediction([("b", 0.9)]), map: APMap(), input: input())
        let soon = planner.plan(prediction([("c", 0.9)], flap: true, time: 5), map: APMap(), input: input())
        #expect(soon.holdHandoff)
        #expect(soon.entries.map(\.host) == ["c", "p", "b"])
        #expect(soon.entries.last?.reasons == [.keptAgainstFlaps(seconds: 25)])
        let later = planner.plan(prediction([("c", 0.9)], time: 60), map: APMap(), input: input())
        #expect(later.entries.map(\.host) == ["c", "p"])
    }

    @Test func explainsEveryEntryAndEveryHostWithout() {
        var planner = ReplicaPlanner()
        let plan = planner.plan(prediction(likely), map: APMap(), input: input())
        let why = plan.entries.flatMap(\.reasons).map(\.description) + plan.passed.map(\.reason.description)
        #expect(
            why == [
                "60 % of hand-offs expected there, in about 20.0 s",
                "20 % of hand-offs expected there, in about 20.0 s",
                "10 % of hand-offs expected there, in about 20.0 s", "the user was there last",
                "8 % expected there, but likelier hosts have the replicas allowed",
                "only 1 % of hand-offs expected there",
            ]
        )
    }

    @Test func respectsRoomAndLink() {
        var planner = ReplicaPlanner()
        let full = planner.plan(
            prediction(likely),
            map: APMap(),
            input: input(["b": .init(bytesPerSecond: 6_250_000, freeBytes: 1_000)])
        )
        #expect(full.passed.contains(.init(host: "b", reason: .noRoom(bytes: 6_249_000))))
        var other = ReplicaPlanner()
        let busy = other.plan(prediction(likely), map: APMap(), input: input(dirty: 4e6))
        #expect(busy.entries.map(\.host) == ["b", "p"])
        #expect(busy.passed.first?.reason == .linkBudget(share: 0.2))
    }

    @Test func addsUpTheAccessPointsOfOneHost() {
        var map = APMap()
        for ap in ["b", "c", "d"] { map.setHost("h", of: ap) }
        map.setHost("a", of: "e")
        var planner = ReplicaPlanner()
        let plan = planner.plan(prediction(likely), map: map, input: input())
        #expect(plan.entries.map(\.host) == ["h", "p"])
        #expect(plan.entries[0].aps == ["b", "c", "d"])
    }
}
