import Testing

@testable import Mobility

@Suite struct PredictorTests {
    private static let records = SyntheticNetwork.records(users: 100, days: 7, seed: 11)
    private static let evaluation = MobilityEvaluator.evaluate(
        MobilityDataSet(name: "synthetic", map: SyntheticNetwork.map(), records: records)
    )

    @Test func beatsEveryBaselineOnANetworkItWasNotTrainedOn() throws {
        let ours = try #require(Self.evaluation.scores.first)
        #expect(ours.count > 1_000)
        #expect(ours.top[0] > 0.7)
        for other in Self.evaluation.scores.dropFirst() {
            #expect(ours.top[0] > other.top[0] + 0.03, "\(other.name)")
            #expect(ours.hitWithPrevious[2] >= other.hitWithPrevious[2], "\(other.name)")
            #expect(ours.timeError < other.timeError + 0.5, "\(other.name)")
        }
    }

    @Test func saysProbabilitiesThatComeTrue() throws {
        let ours = try #require(Self.evaluation.scores.first)
        #expect((ours.calibrationError ?? 1) < 0.06)
    }

    @Test func worksWithoutPositions() throws {
        let data = MobilityDataSet(name: "blind", map: APMap(), records: Self.records)
        let scores = MobilityEvaluator.evaluate(data).scores
        #expect(scores[0].top[0] > scores[2].top[0])
        #expect(scores[0].top[2] > 0.85)
    }

    @Test func saysTheSameInEveryRun() {
        func run() -> [Prediction.Step] {
            let predictor = Predictor(map: SyntheticNetwork.map())
            var steps: [Prediction.Step] = []
            for record in Self.records.prefix(2_000) {
                if let best = predictor.predict(record).next.first { steps.append(best) }
                predictor.learn(record)
            }
            return steps
        }
        #expect(run() == run())
    }

    @Test func givesProbabilitiesThatSumToOneAndIntervalsAroundTheMedian() {
        let predictor = Predictor(map: SyntheticNetwork.map())
        for record in Self.records.prefix(1_000) {
            let prediction = predictor.predict(record, leads: [2, 5, 20])
            let sum = prediction.next.reduce(0) { $0 + $1.probability }
            #expect(abs(sum - 1) < 1e-3)
            #expect(prediction.next.allSatisfy { $0.interval.contains($0.eta) && $0.eta > 0 })
            #expect(!prediction.next.contains { $0.ap == record.ap })
            #expect(prediction.horizons.count == 3)
            #expect((0...1).contains(prediction.movingProbability))
            #expect(Set(prediction.replicas(lead: 5, count: 3)).count == 3)
            predictor.learn(record)
        }
    }

    @Test func tagsAFlap() {
        let predictor = Predictor(map: SyntheticNetwork.map())
        var tagged: [Bool] = []
        for (time, ap) in [(0.0, "ap0"), (30, "ap1"), (35, "ap0"), (80, "ap1")] {
            let record = RoamingRecord(time: time, user: "u", ap: ap, kind: time == 0 ? .start : .roam)
            tagged.append(predictor.predict(record).isFlap)
            predictor.learn(record)
        }
        #expect(tagged == [false, false, true, false])
    }

    @Test func learnsThatAUserStaysSomewhere() {
        let predictor = Predictor(map: SyntheticNetwork.map())
        var atHome = 0.0
        var onTheWay = 0.0
        for day in 0..<12 {
            for (time, ap) in [(0.0, "ap0"), (20, "ap1"), (40, "ap2"), (60, "ap3"), (4_000, "ap2"), (4_020, "ap1")] {
                let record = RoamingRecord(time: time, day: day, user: "u", ap: ap, kind: time == 0 ? .start : .roam)
                let prediction = predictor.predict(record)
                if time == 60 { atHome = prediction.stationaryProbability }
                if time == 20 { onTheWay = prediction.stationaryProbability }
                predictor.learn(record)
            }
        }
        #expect(atHome > 0.5)
        #expect(onTheWay < 0.4)
    }

    @Test func forgetsTheUserSeenLeastRecently() {
        var configuration = Predictor.Configuration()
        configuration.userLimit = 2
        let predictor = Predictor(map: SyntheticNetwork.map(), configuration: configuration)
        for (time, user) in ["a", "b", "a", "c"].enumerated() {
            let record = RoamingRecord(time: Double(time), user: user, ap: "ap\(time)", kind: .start)
            _ = predictor.predict(record)
            predictor.learn(record)
        }
        #expect(predictor.core.users.count == 2)
        #expect(Set(predictor.core.directory.names) == ["a", "c"])
    }

    @Test func keepsUnderTwoKilobytesPerUser() {
        let configuration = Predictor.Configuration()
        // The state, the array's header, the list of last sights and the two references to the name.
        let table = MemoryLayout<UserState>.stride + 32 + 8 + 2 * MemoryLayout<String>.stride + 4
        #expect(table + configuration.historyLimit * 4 < 2_048)
    }

    @Test func survivesTimesThatRunBackwardsAndUnknownAccessPoints() {
        let predictor = Predictor(map: APMap())
        for (time, ap) in [(100.0, "x"), (50, "y"), (50, "x"), (-1e9, "z"), (1e11, "x"), (1e11, "y")] {
            let record = RoamingRecord(time: time, user: "u", ap: ap, kind: .roam)
            let prediction = predictor.predict(record)
            #expect(prediction.next.allSatisfy { $0.eta.isFinite && $0.probability.isFinite })
            predictor.learn(record)
        }
    }
}

@Suite struct SnapshotTests {
    private func trained() -> Predictor {
        let predictor = Predictor(map: SyntheticNetwork.map())
        for record in SyntheticNetwork.records(users: 6, days: 3, seed: 5) {
            _ = predictor.predict(record)
            predictor.learn(record)
        }
        return predictor
    }

    @Test func aRestoredPredictorSaysTheSame() throws {
        let predictor = trained()
        let restored = try Predictor(snapshot: predictor.snapshot(), map: SyntheticNetwork.map())
        let record = RoamingRecord(time: 90_000 * 5, user: "user1", ap: "ap30", kind: .start)
        let (one, two) = (predictor.predict(record), restored.predict(record))
        #expect(one.next == two.next)
        #expect(one.horizons[0].expected == two.horizons[0].expected)
        #expect(restored.snapshot() == predictor.snapshot())
    }

    @Test func everyDamagedByteIsRefused() throws {
        let snapshot = trained().snapshot()
        for place in stride(from: 0, to: snapshot.count, by: max(snapshot.count / 60, 1)) {
            var damaged = snapshot
            damaged[place] ^= 0x40
            #expect(throws: MobilityError.self) { try Predictor(snapshot: damaged, map: APMap()) }
        }
        for count in [0, 7, 19, 20, snapshot.count / 2, snapshot.count - 1] {
            #expect(throws: MobilityError.self) { try Predictor(snapshot: Array(snapshot.prefix(count)), map: APMap()) }
        }
    }
}
