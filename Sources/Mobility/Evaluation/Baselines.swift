/// What an evaluated predictor says at an association.
struct Forecast {
    /// Access points with probabilities, the most probable first; a method without probabilities gives 0.
    var next: [(ap: Int32, probability: Double)] = []
    /// Seconds until the hand-off.
    var eta = 0.0
    /// Access points for replicas, the best first.
    var replicas: [Int32] = []
}

/// An association as the baselines see it: numbered access points, one time line.
struct Association {
    var user: Int
    var ap: Int32
    var time: Double
    /// Whether it begins a session.
    var starts: Bool
}

/// A predictor that the evaluation puts beside ours.
protocol Baseline {
    var name: String { get }
    var givesProbabilities: Bool { get }
    func forecast(_ association: Association, past: [Association]) -> Forecast
    /// Learns that `past` (newest first) was followed by `association`.
    mutating func learn(_ association: Association, past: [Association])
}

/// Counts of successors and their last dwell times in one context.
private struct Successors {
    var counts: [Int32: Double] = [:]
    var dwells: [Double] = []
    var total = 0.0

    mutating func add(_ ap: Int32, _ dwell: Double) {
        counts[ap, default: 0] += 1
        total += 1
        guard dwell < 180 else { return }
        if dwells.count == 64 { dwells.removeFirst() }
        dwells.append(dwell)
    }

    var ranked: [(ap: Int32, probability: Double)] {
        counts.sorted { ($0.value, $1.key) > ($1.value, $0.key) }.map { ($0.key, $0.value / total) }
    }

    var median: Double? { dwells.isEmpty ? nil : dwells.sorted()[dwells.count / 2] }
}

/// Markov of order 1 or 2 over the whole population; order 2 falls back to order 1 where it knows nothing.
struct MarkovBaseline: Baseline {
    let order: Int
    private var first: [Int32: Successors] = [:]
    private var second: [SIMD2<Int32>: Successors] = [:]

    init(order: Int) { self.order = order }

    var name: String { order == 1 ? "order-1 Markov" : "order-2 Markov with fallback" }
    let givesProbabilities = true

    func forecast(_ association: Association, past: [Association]) -> Forecast {
        var result = Forecast()
        let here = first[association.ap]
        var known = order == 2 ? past.first.flatMap { second[[$0.ap, association.ap]] } : nil
        if known == nil { known = here }
        result.next = known?.ranked ?? []
        if known?.counts.count ?? 0 < 3, let here {
            for next in here.ranked where !result.next.contains(where: { $0.ap == next.ap }) {
                result.next.append((next.ap, 0))
            }
        }
        result.eta = known?.median ?? here?.median ?? 10
        result.replicas = result.next.prefix(3).map(\.ap)
        return result
    }

    mutating func learn(_ association: Association, past: [Association]) {
        guard let current = past.first else { return }
        let dwell = association.time - current.time
        first[current.ap, default: Successors()].add(association.ap, dwell)
        if order == 2, past.count > 1 {
            second[[past[1].ap, current.ap], default: Successors()].add(association.ap, dwell)
        }
    }
}

/// Ranks the neighbours of an access point by their distance from a point half a spacing ahead.
///
/// Half a spacing serves these baselines best on the training days of both networks of docs/mobility.md.
private func ahead(
    _ ap: Int32,
    from: SIMD2<Float>,
    velocity: SIMD2<Float>,
    index: AccessPointIndex
) -> Forecast {
    var result = Forecast()
    guard index.knows(ap), !from.x.isNaN else { return result }
    let speed = (velocity * velocity).sum().squareRoot()
    let spacing = index.spacing[Int(ap)]
    let target = speed > 0.05 ? from + velocity / speed * (spacing / 2) : from
    var near = index.neighbours[Int(ap)].map { other -> (ap: Int32, distance: Float) in
        let delta = index.positions[Int(other)] - target
        return (other, (delta * delta).sum())
    }
    near.sort { ($0.distance, $0.ap) < ($1.distance, $1.ap) }
    result.next = near.prefix(8).map { ($0.ap, 0) }
    result.replicas = near.prefix(3).map(\.ap)
    result.eta = speed > 0.05 ? Double(min(spacing / 2 / speed, 600)) : 60
    return result
}

/// The paper's method: velocity and direction from the last three access points of the roaming record.
struct VelocityBaseline: Baseline {
    let index: AccessPointIndex
    let name = "velocity, last 3 APs (the paper)"
    let givesProbabilities = false

    func forecast(_ association: Association, past: [Association]) -> Forecast {
        let here = index.position(association.ap)
        guard let oldest = past.prefix(2).last else {
            return ahead(association.ap, from: here, velocity: .zero, index: index)
        }
        let seconds = Float(max(association.time - oldest.time, 0.5))
        let velocity = (here - index.position(oldest.ap)) / seconds
        return ahead(association.ap, from: here, velocity: velocity.x.isNaN ? .zero : velocity, index: index)
    }

    mutating func learn(_ association: Association, past: [Association]) {}
}

/// A Kalman filter with constant velocity over the positions of the access points, per axis.
struct KalmanBaseline: Baseline {
    let index: AccessPointIndex
    let name = "Kalman, constant velocity"
    let givesProbabilities = false

    func forecast(_ association: Association, past: [Association]) -> Forecast {
        let steps = [association] + past
        guard index.knows(association.ap) else { return Forecast() }
        let spacing = index.spacing[Int(association.ap)]
        let noise = spacing * spacing / 4
        let acceleration: Float = 0.5
        var place = SIMD2<Float>.zero
        var velocity = SIMD2<Float>.zero
        var (pp, pv, vv): (Float, Float, Float) = (noise, 0, 100)
        var last: Association?
        for step in steps.reversed() {
            let measured = index.position(step.ap)
            if measured.x.isNaN { continue }
            guard let before = last else {
                place = measured
                last = step
                continue
            }
            let dt = Float(max(step.time - before.time, 0.5))
            place += velocity * dt
            pp += dt * (2 * pv + dt * vv) + acceleration * dt * dt * dt / 3
            pv += dt * vv + acceleration * dt * dt / 2
            vv += acceleration * dt
            let (gainPlace, gainVelocity) = (pp / (pp + noise), pv / (pp + noise))
            let residual = measured - place
            place += residual * gainPlace
            velocity += residual * gainVelocity
            vv -= gainVelocity * pv
            pv *= 1 - gainPlace
            pp *= 1 - gainPlace
            last = step
        }
        return ahead(association.ap, from: place, velocity: velocity, index: index)
    }

    mutating func learn(_ association: Association, past: [Association]) {}
}
