/// Recorded associations of one network, with its map.
public struct MobilityDataSet: Sendable {
    /// Name, for the table.
    public var name: String
    /// The access points.
    public var map: APMap
    /// In the order of the file.
    public var records: [RoamingRecord]

    /// Makes a data set.
    public init(name: String, map: APMap, records: [RoamingRecord]) {
        self.name = name
        self.map = map
        self.records = records
    }
}

/// The figures of one network.
public struct MobilityEvaluation: Sendable, Codable {
    /// The network.
    public var name: String
    /// Lead time of the replica figures, seconds.
    public var lead: Double
    /// Ours first.
    public var scores: [MobilityScore]
}

/// Runs our predictor and the baselines over recorded associations, by the protocol of docs/mobility.md.
public enum MobilityEvaluator {
    /// Whether a user is one of the tenth that are never trained on: FNV-1a of the name, modulo 10, is 0.
    public static func isHeldOut(_ user: String) -> Bool {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in user.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash % 10 == 0
    }

    /// Evaluates one data set; `testDays` are each user's last days that count.
    public static func evaluate(
        _ data: MobilityDataSet,
        lead: Double = 5,
        testDays: Int = 2,
        configuration: Predictor.Configuration = .init()
    ) -> MobilityEvaluation {
        var run = EvaluationRun(data, lead: lead, testDays: testDays, configuration: configuration)
        for (place, record) in data.records.enumerated() { run.take(record, place) }
        return MobilityEvaluation(name: data.name, lead: lead, scores: run.keepers.map(\.score))
    }
}

/// One pass over a data set.
private struct EvaluationRun {
    private struct Decision {
        var association: Association
        /// One per predictor.
        var forecasts: [Forecast]
    }

    private struct Session {
        var past: [Association] = []
        /// Newest first, as `past`.
        var decisions: [Decision] = []
        var heldOut = false
        var firstTestDay = Int.max
        var number = 0
    }

    var keepers: [ScoreKeeper]
    private var baselines: [any Baseline]
    private let predictor: Predictor
    private var sessions: [String: Session] = [:]
    private let lead: Double

    init(_ data: MobilityDataSet, lead: Double, testDays: Int, configuration: Predictor.Configuration) {
        predictor = Predictor(map: data.map, configuration: configuration)
        let index = predictor.core.index
        baselines = [
            MarkovBaseline(order: 1), MarkovBaseline(order: 2), VelocityBaseline(index: index),
            KalmanBaseline(index: index),
        ]
        keepers = [ScoreKeeper(name: "smirun", givesProbabilities: true)]
        keepers += baselines.map { ScoreKeeper(name: $0.name, givesProbabilities: $0.givesProbabilities) }
        self.lead = lead
        var days: [String: Set<Int>] = [:]
        for record in data.records { days[record.user, default: []].insert(Self.day(record)) }
        for (number, user) in days.keys.sorted().enumerated() {
            var session = Session()
            session.number = number
            session.heldOut = MobilityEvaluator.isHeldOut(user)
            session.firstTestDay = days[user]?.sorted().suffix(testDays).first ?? Int.max
            sessions[user] = session
        }
    }

    private static func day(_ record: RoamingRecord) -> Int {
        record.day ?? Int((record.absoluteTime / 86_400).rounded(.down))
    }

    mutating func take(_ record: RoamingRecord, _ place: Int) {
        guard var session = sessions[record.user] else { return }
        defer { sessions[record.user] = session }
        let test = Self.day(record) >= session.firstTestDay
        if session.heldOut && !test { return }
        guard record.kind.isAssociation else {
            session.past = []
            session.decisions = []
            predictor.learn(record)
            return
        }
        if record.kind == .start {
            session.past = []
            session.decisions = []
        }
        predictor.core.prepare(record, leads: [lead])
        let outcome = predictor.core.outcome
        let association = Association(
            user: session.number,
            ap: outcome.ap,
            time: record.absoluteTime,
            starts: record.kind == .start
        )
        if test, record.kind == .roam { count(association, session) }
        var forecasts = [Self.ours(outcome)]
        for turn in baselines.indices {
            forecasts.append(test ? baselines[turn].forecast(association, past: session.past) : Forecast())
            if record.kind == .roam { baselines[turn].learn(association, past: session.past) }
        }
        predictor.learn(record)
        session.past.insert(association, at: 0)
        session.decisions.insert(Decision(association: association, forecasts: forecasts), at: 0)
        if session.past.count > 8 { session.past.removeLast() }
        if session.decisions.count > 16 { session.decisions.removeLast() }
    }

    private static func ours(_ outcome: Outcome) -> Forecast {
        Forecast(
            next: outcome.steps.prefix(8).map { ($0.ap, Double($0.probability)) },
            eta: Double(outcome.steps.first?.median ?? 0),
            replicas: outcome.horizons[0].prefix(3).map(\.ap)
        )
    }

    /// Scores what was said before a roam.
    private mutating func count(_ roam: Association, _ session: Session) {
        guard let current = session.decisions.first, current.association.ap != roam.ap else { return }
        let dwell = roam.time - current.association.time
        guard dwell < 180 else { return }
        let previous = session.decisions.count > 1 ? session.decisions[1].association.ap : -1
        let decision = session.decisions.first { $0.association.time <= roam.time - lead }
        for turn in keepers.indices {
            // What was said on a training day is not counted.
            if !current.forecasts[turn].next.isEmpty || turn > 0 {
                keepers[turn].prediction(
                    current.forecasts[turn],
                    truth: roam.ap,
                    dwell: dwell,
                    unseenUser: session.heldOut
                )
            }
            if let decision {
                keepers[turn].handoff(decision.forecasts[turn].replicas, to: roam.ap, previous: previous)
            }
        }
    }
}
