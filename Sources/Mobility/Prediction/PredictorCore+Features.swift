extension PredictorCore {
    /// Turns the sums of the evidence into the features that the next access point is scored by.
    func describe(_ track: Track, _ totals: EvidenceTotals, _ place: Int) {
        let values = pool.values(place)
        let count = pool.headers[place].count
        let width = SampleLayout.ownCount
        let geometrySum = describeGeometry(track, place)
        let logs = scratch.logs
        for c in 0..<count {
            let g = values[SampleLayout.own + c * width + 11] / geometrySum
            let n = scratch.pop[c]
            let u = scratch.own[c]
            var p = g
            var third = g
            let at = logs + c * 16
            for order in 0..<4 {
                p = (n[order] + 2 * p) / (totals.pop[order] + 2)
                at[order] = p
                if order == 2 { third = p }
            }
            at[4] = (n[4] + 0.5 * g) / (totals.pop[4] + 0.5)
            at[5] = (n[5] + 0.3 * g) / (totals.pop[5] + 0.3)
            var q = third
            for order in 0..<4 {
                q = (u[order] + q) / (totals.own[order] + 1)
                at[6 + order] = q
            }
            at[10] = (u[5] + third) / (totals.own[5] + 1)
            at[11] = g
            at[12] = (u[4] + third) / (totals.own[4] + 1)
            at[13] = (u[6] + third) / (totals.own[6] + 1)
            at[14] = (n[6] + g) / (totals.pop[6] + 1)
            at[15] = (n[7] + 0.3 * g) / (totals.pop[7] + 0.3)
        }
        FastMath.log(logs, count * 16, scale: 0.5)
        for c in 0..<count {
            let to = values + SampleLayout.own + c * width
            for f in 0..<12 { to[f] = logs[c * 16 + f] }
            for f in 12..<16 { to[9 + f] = logs[c * 16 + f] }
        }
        describeShared(track, totals, values + SampleLayout.shared)
    }

    /// The features of relative position; the odds of the geometry stay in feature 11.
    ///
    /// Returns their sum.
    private func describeGeometry(_ track: Track, _ place: Int) -> Float {
        let values = pool.values(place) + SampleLayout.own
        let numbers = pool.numbers(place)
        let width = SampleLayout.ownCount
        let current = Int(track.visits[0].ap)
        let speed = track.paceKnown ? (track.logPace < 2.3 ? 0 : 1) : 2
        let neighbours = index.neighbours[current]
        var sum: Float = 0
        for c in 0..<pool.headers[place].count {
            let ap = numbers[SampleLayout.candidates + c]
            let to = values + c * width
            for f in 12..<width { to[f] = 0 }
            var cosine: Float = -9
            let position = index.positions[Int(ap)]
            if track.placed, !position.x.isNaN {
                let delta = (position - track.here) / track.spacing
                let length = (delta.x * delta.x + delta.y * delta.y).squareRoot()
                let along = delta.x * track.longHeading.x + delta.y * track.longHeading.y
                to[12] = length - 1
                to[13] = delta.x * track.shortHeading.x + delta.y * track.shortHeading.y
                to[14] = abs(delta.x * track.shortHeading.y - delta.y * track.shortHeading.x)
                to[15] = along
                to[16] = abs(delta.x * track.longHeading.y - delta.y * track.longHeading.x)
                to[25] = delta.x * track.timedHeading.x + delta.y * track.timedHeading.y
                to[26] = abs(delta.x * track.timedHeading.y - delta.y * track.timedHeading.x)
                if track.longHeading != .zero, length > 0 { cosine = along / length }
            }
            var recency = 0
            for step in 0..<3 where track.previous[step] == ap {
                to[17 + step] = 1
                recency = step + 1
                break
            }
            var rank = 15
            for near in neighbours.indices where neighbours[near] == ap {
                rank = near
                break
            }
            to[20] = Float(rank) * 0.1
            let bucket = GeometryOdds.bucket(cosine: cosine, rank: rank, recency: recency, speed: speed)
            numbers[SampleLayout.buckets + c] = Int32(bucket)
            let odds = geometry.odds(bucket)
            to[11] = odds
            sum += odds
        }
        return sum
    }

    private func describeShared(_ track: Track, _ totals: EvidenceTotals, _ to: UnsafeMutablePointer<Float>) {
        for order in 0..<4 {
            to[order] = FastMath.log(1 + totals.pop[order]) * 0.3
            to[4 + order] = FastMath.log(1 + totals.own[order]) * 0.5
        }
        to[8] = FastMath.log(1 + totals.pop[4]) * 0.3
        to[9] = FastMath.log(1 + totals.pop[5]) * 0.3
        to[10] = FastMath.log(1 + totals.own[4]) * 0.3
        to[11] = track.visits[0].rssi == 0 ? 0 : (track.visits[0].rssi + 84) * 0.1
        to[12] = track.paceKnown ? (track.logPace - 2.5) : 0
        to[13] = track.paceKnown ? 1 : 0
        to[14] = track.used > 1 ? min(track.lastLogDwell, 6) - 2.5 : 0
        to[15] = Float(track.used) * 0.2
        to[16] = (track.shortHeading * track.longHeading).sum()
        to[17] = track.placed ? 1 : 0
        to[18] = track.used > 2 && track.visits[2].ap == track.visits[0].ap ? 1 : 0
        let before = track.used > 2 ? Float(max(track.visits[1].time - track.visits[2].time, 0.5)) : 12
        to[19] = min(FastMath.log(before), 6) - 2.5
    }

    /// Evidence for when the user would go to each candidate, and for whether at all.
    func describeDwell(_ track: Track, _ totals: EvidenceTotals, _ place: Int) {
        let values = pool.values(place)
        let pace = track.paceKnown ? track.logPace : 2.5
        let popAll = (totals.dwell.y + 0.3 * pace) / (totals.dwell.x + 0.3)
        let last = track.used > 1 ? min(track.lastLogDwell, 5.2) : pace
        let logSpacing = track.placed ? FastMath.log(track.spacing) - 4 : 0
        let shared = values + SampleLayout.shared
        for c in 0..<pool.headers[place].count {
            let to = values + SampleLayout.dwell + c * SampleLayout.dwellCount
            let own = values + SampleLayout.own + c * SampleLayout.ownCount
            let dwell = scratch.dwell[c]
            let popHere = (dwell.y + 0.3 * popAll) / (dwell.x + 0.3)
            let ownAll = (totals.dwell.w + popHere) / (totals.dwell.z + 1)
            to[0] = popHere
            to[1] = popAll
            to[2] = (dwell.w + ownAll) / (dwell.z + 1)
            to[3] = ownAll
            to[4] = pace
            to[5] = last
            to[6] = own[12]
            to[7] = own[13]
            to[8] = own[14]
            to[9] = FastMath.log(scratch.probability[c] + 1e-4) * 0.3
            to[10] = FastMath.log(1 + dwell.x) * 0.3
            to[11] = FastMath.log(1 + dwell.z) * 0.3
            to[12] = shared[11]
            to[13] = shared[13]
            to[14] = shared[18]
            to[15] = shared[19]
            to[16] = own[17]
            to[17] = shared[16]
            to[18] = shared[15]
            to[19] = logSpacing
        }
        describeStay(track, totals, values)
    }

    private func describeStay(_ track: Track, _ totals: EvidenceTotals, _ values: UnsafeMutablePointer<Float>) {
        let to = values + SampleLayout.stay
        let shared = values + SampleLayout.shared
        let ownAll = totals.own[4] + totals.ownEnds
        let popAll = totals.pop[4]
        to[0] = FastMath.log((totals.ownStay + 0.1) / (ownAll + 2))
        to[1] = FastMath.log((totals.popStay + 0.05) / (popAll + 1))
        to[2] = FastMath.log(1 + ownAll) * 0.3
        to[3] = FastMath.log(1 + popAll) * 0.3
        to[4] = shared[12]
        to[5] = shared[13]
        to[6] = shared[14]
        to[7] = shared[11]
        to[8] = shared[18]
        to[9] = track.used == 1 ? 1 : 0
        to[10] = shared[19]
        to[11] = shared[15]
    }
}
