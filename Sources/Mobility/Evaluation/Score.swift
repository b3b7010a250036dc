/// The figures of one predictor on one network.
public struct MobilityScore: Sendable, Codable, Hashable {
    /// The predictor.
    public var name: String
    /// Predictions counted: test days, moving users.
    public var count = 0
    /// Share of predictions with the right access point among the first 1, 2, 3.
    public var top: [Double] = [0, 0, 0]
    /// The same, first only, over users never trained on.
    public var topUnseen = 0.0
    /// Median of the absolute error of the hand-off time, seconds.
    public var timeError = 0.0
    /// Expected calibration error of the first probability, 15 equal bins; nil for methods without probabilities.
    public var calibrationError: Double?
    /// Hand-offs counted for the replica figures.
    public var handoffs = 0
    /// Share of hand-offs to an access point of the replica set of 1, 2, 3.
    public var hit: [Double] = [0, 0, 0]
    /// The same with the previous host's copy kept.
    public var hitWithPrevious: [Double] = [0, 0, 0]
}

/// Sums from which a score is made.
struct ScoreKeeper {
    let name: String
    let givesProbabilities: Bool
    private var count = 0
    private var top = [0, 0, 0]
    private var unseen = (count: 0, right: 0)
    private var errors: [Double] = []
    private var bins: [(count: Int, probability: Double, right: Int)] = Array(repeating: (0, 0, 0), count: 15)
    private var handoffs = 0
    private var hit = [0, 0, 0]
    private var kept = [0, 0, 0]

    init(name: String, givesProbabilities: Bool) {
        self.name = name
        self.givesProbabilities = givesProbabilities
    }

    mutating func prediction(_ forecast: Forecast, truth: Int32, dwell: Double, unseenUser: Bool) {
        count += 1
        let place = forecast.next.prefix(3).firstIndex { $0.ap == truth } ?? 3
        for k in 0..<3 where place <= k { top[k] += 1 }
        if unseenUser {
            unseen.count += 1
            if place == 0 { unseen.right += 1 }
        }
        errors.append(abs(forecast.eta - dwell))
        if let first = forecast.next.first {
            let bin = min(max(Int(first.probability * 15), 0), 14)
            bins[bin].count += 1
            bins[bin].probability += first.probability
            if place == 0 { bins[bin].right += 1 }
        }
    }

    mutating func handoff(_ replicas: [Int32], to ap: Int32, previous: Int32) {
        handoffs += 1
        let place = replicas.prefix(3).firstIndex(of: ap) ?? 3
        for k in 0..<3 {
            if place <= k { hit[k] += 1 }
            if place <= k || ap == previous { kept[k] += 1 }
        }
    }

    var score: MobilityScore {
        var score = MobilityScore(name: name)
        score.count = count
        score.handoffs = handoffs
        guard count > 0 else { return score }
        score.top = top.map { Double($0) / Double(count) }
        score.topUnseen = unseen.count == 0 ? 0 : Double(unseen.right) / Double(unseen.count)
        score.timeError = errors.sorted()[errors.count / 2]
        if givesProbabilities {
            score.calibrationError = bins.reduce(0) { $0 + abs($1.probability - Double($1.right)) } / Double(count)
        }
        if handoffs > 0 {
            score.hit = hit.map { Double($0) / Double(handoffs) }
            score.hitWithPrevious = kept.map { Double($0) / Double(handoffs) }
        }
        return score
    }
}
