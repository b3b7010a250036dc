/// The predictor's state and its order of work; `Predictor` is its public face.
package struct PredictorCore {
    let configuration: Predictor.Configuration
    var index: AccessPointIndex
    var users: [UserState] = []
    var directory: UserDirectory
    var memory: PassMemory
    package var geometry = GeometryOdds()
    package let models: Models
    let pool: SamplePool
    let scratch: Scratch
    let slots: SlotTable
    /// What scores are multiplied with before they become probabilities; learned faster than the weights, so that a
    /// network unlike those trained on is calibrated soon.
    var sharpness: Float = 1
    var calibration = Calibration()
    /// The prediction last prepared.
    var outcome = Outcome()
    package var trained = 0
    package var missing = 0

    init(map: APMap, configuration: Predictor.Configuration) {
        self.configuration = configuration
        index = AccessPointIndex(map)
        directory = UserDirectory(limit: configuration.userLimit)
        memory = PassMemory(capacity: configuration.passLimit)
        models = Models()
        pool = SamplePool(capacity: configuration.pendingLimit)
        scratch = Scratch(voteLimit: max(configuration.passLimit, configuration.historyLimit))
        slots = SlotTable()
        memory.reserve(index.count)
        slots.reserve(index.count)
    }

    /// The number of a user, whose state is ready.
    mutating func userNumber(_ name: String) -> Int {
        let (number, isNew) = directory.number(of: name)
        if isNew {
            if number == users.count { users.append(UserState()) } else { users[number] = UserState() }
        }
        return number
    }

    mutating func apNumber(_ name: String) -> Int32 {
        if let known = index.lookUp(name) { return known }
        let number = index.number(of: name)
        memory.reserve(index.count)
        slots.reserve(index.count)
        return number
    }

    /// Leaves the prediction in `outcome` and its evidence in the pool of those that wait for their outcome.
    mutating func prepare(_ record: RoamingRecord, leads: [Double]) {
        let user = userNumber(record.user)
        let ap = apNumber(record.ap)
        let track = Track(users[user], ap, record, index)
        let handle = pool.take()
        let place = Int(handle.place)
        let totals = gather(user, track, place)
        describe(track, totals, place)
        let values = pool.values(place)
        let count = pool.headers[place].count
        models.next.score(
            values + SampleLayout.own,
            count,
            shared: values + SampleLayout.shared,
            into: scratch.probability
        )
        for c in 0..<count { scratch.probability[c] *= sharpness }
        ScoringNetwork.softmax(scratch.probability, count)
        correctFirst(place, count)
        describeDwell(track, totals, place)
        rank(track, place)
        anticipate(user, track, totals, place, leads)
        users[user].staged = handle
        for f in 0..<SampleLayout.stayCount { users[user].stagedStay[f] = values[SampleLayout.stay + f] }
    }

    /// Gives the first candidate its corrected probability, and the others what is left in proportion.
    private func correctFirst(_ place: Int, _ count: Int) {
        let probability = scratch.probability
        var first = 0
        for c in 0..<count where probability[c] > probability[first] { first = c }
        pool.headers[place].first = first
        guard count > 1 else { return }
        let said = probability[first]
        pool.headers[place].said = said
        var second: Float = 0
        for c in 0..<count where c != first { second = max(second, probability[c]) }
        // The first stays the first.
        let least = second / (1 - said + second)
        let right = max(calibration.correct(said), least)
        let rest = (1 - right) / max(1 - said, 1e-6)
        for c in 0..<count { probability[c] = c == first ? right : probability[c] * rest }
    }

    /// Puts the candidates in order and estimates when.
    private mutating func rank(_ track: Track, _ place: Int) {
        let values = pool.values(place)
        let numbers = pool.numbers(place) + SampleLayout.candidates
        let count = pool.headers[place].count
        outcome.ap = track.visits[0].ap
        outcome.previous = track.previous[0]
        outcome.flap = track.flap
        models.dwell.scoreAll(
            values + SampleLayout.dwell,
            count,
            shared: values,
            stride: Scratch.width,
            into: scratch.quantiles
        )
        outcome.steps.removeAll(keepingCapacity: true)
        for c in 0..<count {
            let median = FastMath.exp(scratch.quantiles[c])
            outcome.steps.append(
                Outcome.Step(ap: numbers[c], probability: scratch.probability[c], median: median, candidate: Int32(c))
            )
        }
        outcome.steps.sort { left, right in
            left.probability != right.probability ? left.probability > right.probability : left.ap < right.ap
        }
        var stay: Float = 0
        models.stay.score(values + SampleLayout.stay, 1, shared: values, into: &stay)
        outcome.moving = 1 / (1 + FastMath.exp(stay))
    }

    /// The 10th and the 90th percentile of the seconds of a step of `outcome`, until the next `prepare`.
    func interval(_ step: Outcome.Step) -> (low: Float, high: Float) {
        let low = scratch.quantiles[Scratch.width + Int(step.candidate)]
        let high = scratch.quantiles[2 * Scratch.width + Int(step.candidate)]
        return (min(FastMath.exp(low), step.median), max(FastMath.exp(high), step.median))
    }
}

/// The trained parts.
package final class Models {
    package let next = ScoringNetwork(
        own: SampleLayout.ownCount,
        shared: SampleLayout.sharedCount,
        outputs: 1,
        rate: 0.0001,
        seed: 1
    )
    package let dwell = ScoringNetwork(own: SampleLayout.dwellCount, shared: 0, outputs: 3, rate: 0.0001, seed: 2)
    package let horizon = ScoringNetwork(
        own: SampleLayout.horizonOwnCount,
        shared: SampleLayout.horizonSharedCount,
        outputs: 1,
        rate: 0.0001,
        seed: 3
    )
    package let stay = ScoringNetwork(own: SampleLayout.stayCount, shared: 0, outputs: 1, rate: 0.0005, seed: 4)

    package var all: [ScoringNetwork] { [next, dwell, horizon, stay] }

    /// Those whose trained weights are shipped; `stay` starts from the weights set below.
    var shipped: [ScoringNetwork] { [next, dwell, horizon] }

    init() {
        for (feature, weight) in [(0, 0.1), (1, 0.2), (2, 0.2), (4, 0.2), (6, 0.1), (7, 0.2), (9, 0.1), (11, 0.1)] {
            next.setDirect(0, feature, Float(weight))
        }
        for row in 0..<3 {
            dwell.setDirect(row, 0, 0.5)
            dwell.setDirect(row, 2, 0.3)
            dwell.setDirect(row, SampleLayout.dwellCount, row == 1 ? -0.7 : row == 2 ? 0.7 : 0)
        }
        for (feature, weight) in [(0, 0.3), (1, 0.2), (2, 0.3), (5, 0.3)] {
            horizon.setDirect(0, feature, Float(weight))
        }
        stay.setDirect(0, 0, 1.2)
        stay.setDirect(0, 1, 0.4)
        stay.setDirect(0, SampleLayout.stayCount, 3)
    }
}
