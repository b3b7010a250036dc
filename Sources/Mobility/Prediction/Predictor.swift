/// Learns from roaming records where users go next, and says so.
///
/// For each association: `predict`, then `learn` the same record; stops and what need not be predicted are learned
/// only. Not safe for use from several threads at once: keep it in one actor.
public final class Predictor {
    /// Bounds; none of them depends on a network.
    public struct Configuration: Sendable, Hashable {
        /// Associations remembered per user, four bytes each.
        public var historyLimit = 380
        /// Passes remembered per access point.
        public var passLimit = 256
        /// Users remembered; the one seen least recently is forgotten first.
        public var userLimit = 1_000_000
        /// Predictions that may wait for their outcome, over all users.
        public var pendingLimit = 1024

        /// The bounds used throughout.
        public init() {}
    }

    package var core: PredictorCore

    /// A predictor that knows the map and nothing else.
    public init(map: APMap, configuration: Configuration = .init()) {
        core = PredictorCore(map: map, configuration: configuration)
        InitialWeights.load(into: core.models, &core.geometry)
    }

    /// One with the weights that the predictor ships with, or without them, for training.
    package init(map: APMap, configuration: Configuration = .init(), shipped: Bool) {
        core = PredictorCore(map: map, configuration: configuration)
        if shipped { InitialWeights.load(into: core.models, &core.geometry) }
    }

    /// Predicts where the user of an association goes next, from what was learned before it.
    ///
    /// `leads` are the lead times in seconds that replica sets are wanted for; the predictor learns for the first two.
    public func predict(_ record: RoamingRecord, leads: [Double] = [5]) -> Prediction {
        core.prepare(record, leads: leads)
        return core.prediction(record, leads: leads)
    }

    /// Learns what a record tells; call `predict` with it before.
    public func learn(_ record: RoamingRecord) {
        core.learn(record)
    }
}

extension PredictorCore {
    /// The outcome in names.
    func prediction(_ record: RoamingRecord, leads: [Double]) -> Prediction {
        func name(_ ap: Int32) -> String { index.names[Int(ap)] }
        return Prediction(
            user: record.user,
            ap: record.ap,
            previous: outcome.previous < 0 ? nil : name(outcome.previous),
            time: record.absoluteTime,
            next: outcome.steps.map { step in
                let (low, high) = interval(step)
                return Prediction.Step(
                    ap: name(step.ap),
                    probability: Double(step.probability),
                    eta: Double(step.median),
                    interval: Double(low)...Double(high)
                )
            },
            movingProbability: Double(outcome.moving),
            isFlap: outcome.flap,
            horizons: zip(leads, outcome.horizons).map { lead, list in
                (lead, list.map { Prediction.Expected(ap: name($0.ap), weight: Double($0.weight)) })
            }
        )
    }
}
