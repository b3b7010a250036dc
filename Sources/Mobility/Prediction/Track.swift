/// What the evidence is gathered from: an association and the ones before it.
struct Track {
    /// Newest first; `visits[0]` is the association in question.
    var visits: InlineArray<6, Visit> = .init(repeating: Visit())
    var used = 0
    /// The three access points before; -1 where there was none.
    var previous: SIMD4<Int32> = [-1, -1, -1, -1]
    /// Local spacing, metres.
    var spacing: Float = 60
    var placed = false
    /// Position of the current access point, metres.
    var here: SIMD2<Float> = .zero
    /// Unit vectors: from the previous access point to this one, and over the last few.
    var shortHeading: SIMD2<Float> = .zero
    var longHeading: SIMD2<Float> = .zero
    /// Weighted centre of the previous positions, relative to `here`, in units of `spacing`.
    var approach: SIMD2<Float> = .zero
    /// Where the user was 8 s (x, y) and 20 s (z, w) before, relative to `here`, in units of `spacing`.
    var timed: SIMD4<Float> = .zero
    var timedHeading: SIMD2<Float> = .zero
    /// Logarithm of the seconds per access point lately; `paceKnown` is false where there is none.
    var logPace: Float = 0
    var paceKnown = false
    var lastLogDwell: Float = 0
    var slot: UInt32 = 0
    /// Whether the user came back within ten seconds.
    var flap = false

    /// Of an association that is not learned yet.
    init(_ state: UserState, _ ap: Int32, _ record: RoamingRecord, _ index: AccessPointIndex) {
        let time = record.absoluteTime
        visits[0] = Visit(ap: ap, rssi: Float(record.rssi ?? 0), time: time)
        used = 1
        if !state.isFresh(record) {
            let skip = state.recentUsed > 0 && state.recent[0].ap == ap ? 1 : 0
            for step in skip..<max(state.recentUsed, skip) where used < 6 {
                visits[used] = state.recent[step]
                used += 1
            }
        }
        finish(index)
    }

    /// Of where the user is.
    init(past state: UserState, _ index: AccessPointIndex) {
        visits = state.recent
        used = state.recentUsed
        finish(index)
    }

    private mutating func finish(_ index: AccessPointIndex) {
        let current = Int(visits[0].ap)
        slot = PackedVisit.slot(visits[0].time)
        spacing = index.spacing[current]
        here = index.positions[current]
        placed = !here.x.isNaN
        let weights: SIMD4<Float> = [0.5, 0.3, 0.2, 0]
        var weight: Float = 0
        var centre = SIMD2<Float>.zero
        var seconds: Float = 0
        var steps: Float = 0
        for step in 1..<max(used, 1) {
            let visit = visits[step]
            if step < 4 { previous[step - 1] = visit.ap }
            let dwell = Float(visits[step - 1].time - visit.time)
            if dwell > 180 { break }
            if step > 4 { continue }
            seconds += dwell
            steps += 1
            let place = index.positions[Int(visit.ap)]
            if placed, step < 4, !place.x.isNaN {
                centre += (place - here) * weights[step - 1]
                weight += weights[step - 1]
            }
        }
        if used > 1 {
            lastLogDwell = FastMath.log(Float(max(visits[0].time - visits[1].time, 0.5)))
            let before = index.positions[Int(visits[1].ap)]
            if placed, !before.x.isNaN { shortHeading = Self.unit(here - before) }
        }
        for step in 1..<max(min(used, 4), 1) { previous[step - 1] = visits[step].ap }
        if steps > 0 {
            logPace = FastMath.log(max(seconds, 0.5) / steps)
            paceKnown = true
        }
        if weight > 0 {
            approach = centre / (weight * spacing)
            longHeading = Self.unit(-approach)
        }
        if placed {
            let near = position(before: 8, index)
            let far = position(before: 20, index)
            timed = [near.x, near.y, far.x, far.y]
            timedHeading = Self.unit(-(near + far * 0.5))
        }
        flap = used > 2 && visits[2].ap == visits[0].ap && visits[0].time - visits[1].time <= 10
    }

    /// Where the user was some seconds before, between access points.
    private func position(before seconds: Float, _ index: AccessPointIndex) -> SIMD2<Float> {
        var later = SIMD2<Float>.zero
        var laterAge: Float = 0
        for step in 1..<max(used, 1) {
            let age = Float(visits[0].time - visits[step].time)
            let place = index.positions[Int(visits[step].ap)]
            if place.x.isNaN { continue }
            let there = (place - here) / spacing
            if age >= seconds {
                return later + (there - later) * ((seconds - laterAge) / max(age - laterAge, 0.5))
            }
            later = there
            laterAge = age
        }
        return later
    }

    private static func unit(_ v: SIMD2<Float>) -> SIMD2<Float> {
        let length = (v * v).sum().squareRoot()
        return length > 1e-6 ? v / length : .zero
    }
}
