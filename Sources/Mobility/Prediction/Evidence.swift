extension Predictor {
    func makeTrack(_ state: UserState, _ ap: Int32, _ record: RoamingRecord) -> Track {
        var track = Track()
        let time = record.absoluteTime
        track.visits[0] = Visit(ap: ap, rssi: Float(record.rssi ?? 0), time: time)
        track.used = 1
        let fresh = record.kind == .start && time - state.lastTime > 30
        if !fresh {
            let skip = state.recentUsed > 0 && state.recent[0].ap == ap ? 1 : 0
            for step in skip..<max(state.recentUsed, skip) where track.used < 6 {
                track.visits[track.used] = state.recent[step]
                track.used += 1
            }
        }
        finish(&track)
        return track
    }

    func makeTrack(past state: UserState) -> Track {
        var track = Track()
        track.visits = state.recent
        track.used = state.recentUsed
        finish(&track)
        return track
    }

    func finish(_ track: inout Track) {
        let current = Int(track.visits[0].ap)
        track.slot = Self.slot(track.visits[0].time)
        track.spacing = index.spacing[current]
        track.placed = index.hasPosition(track.visits[0].ap)
        track.here = index.positions[current]
        let weights: SIMD4<Float> = [0.5, 0.3, 0.2, 0]
        var weight: Float = 0
        var centre = SIMD2<Float>.zero
        var seconds: Float = 0
        var steps: Float = 0
        for step in 1..<max(track.used, 1) where step < 5 {
            let visit = track.visits[step]
            let dwell = Float(track.visits[step - 1].time - visit.time)
            if dwell > 180 { break }
            seconds += dwell
            steps += 1
            if track.placed, step < 4, index.hasPosition(visit.ap) {
                centre += (index.positions[Int(visit.ap)] - track.here) * weights[step - 1]
                weight += weights[step - 1]
            }
        }
        if track.used > 1 {
            track.lastLogDwell = FastMath.log(Float(max(track.visits[0].time - track.visits[1].time, 0.5)))
        }
        if steps > 0 {
            track.logPace = FastMath.log(max(seconds, 0.5) / steps)
            track.paceKnown = true
        }
        if weight > 0 {
            track.approach = centre / (weight * track.spacing)
            track.longHeading = unit(-track.approach)
        }
        if track.placed, track.used > 1, index.hasPosition(track.visits[1].ap) {
            track.shortHeading = unit(track.here - index.positions[Int(track.visits[1].ap)])
        }
    }

    @inline(__always)
    func unit(_ v: SIMD2<Float>) -> SIMD2<Float> {
        let length = (v * v).sum().squareRoot()
        return length > 1e-6 ? v / length : .zero
    }

    @inline(__always)
    func candidate(_ ap: Int32) -> Int {
        let known = slotOf[Int(ap)]
        if known >= 0 { return Int(known) }
        let slot = sample.candidates.count
        guard slot < Sample.candidateLimit else { return -1 }
        sample.candidates.append(ap)
        slotOf[Int(ap)] = Int16(slot)
        pop[slot] = .zero
        own[slot] = .zero
        popDwell[slot] = .zero
        ownDwell[slot] = .zero
        return slot
    }

    func gather(_ state: UserState, _ track: Track) {
        sample.candidates.removeAll(keepingCapacity: true)
        ownVotes.removeAll(keepingCapacity: true)
        popDwellTotal = .zero
        ownDwellTotal = .zero
        let current = track.visits[0].ap
        let ownTotal = gatherOwn(state, track)
        let popTotal = gatherPopulation(track)
        for step in 1..<4 where step < track.used {
            if track.visits[step].ap != current { _ = candidate(track.visits[step].ap) }
        }
        for near in index.neighbours[Int(current)] { _ = candidate(near) }
        describe(track, ownTotal, popTotal)
        for ap in sample.candidates { slotOf[Int(ap)] = -1 }
    }

    func gatherPopulation(_ track: Track) -> SIMD8<Float> {
        var total = SIMD8<Float>.zero
        let current = track.visits[0].ap
        let p1 = track.previous(1), p2 = track.previous(2), p3 = track.previous(3)
        let rssi = track.visits[0].rssi
        votes.removeAll(keepingCapacity: true)
        for (place, pass) in memory.passes[Int(current)].enumerated() {
            let slot = candidate(pass.following[0])
            if slot < 0 { continue }
            let m2: Float = pass.previous[0] == p1 && p1 >= 0 ? 1 : 0
            let m3: Float = pass.previous[1] == p2 ? m2 : 0
            let m4: Float = pass.previous[2] == p3 ? m3 : 0
            let delta = pass.approach - track.approach
            let square = (delta * delta).sum()
            let close = 1 / (1 + square * 3)
            var kernel = close * close * close
            let pace = pass.logPace - track.logPace
            let similar = pace.isNaN ? 0.3 : 1 / (1 + pace * pace * 2)
            kernel *= similar
            let strength = (pass.rssi - rssi) * 0.15
            let sharp = kernel * kernel / (1 + strength * strength)
            let w: SIMD8<Float> = [1, m2, m3, m4, kernel, sharp, m2 * similar, pass.logDwell < 5.2 ? sharp * pass.logDwell : 0]
            pop[slot] += w
            total += w
            votes.append((Int32(place), sharp + 0.001, m2 * similar))
            if pass.logDwell < 5.2 {
                let d: SIMD2<Float> = [sharp + 0.001, (sharp + 0.001) * pass.logDwell]
                popDwell[slot] += d
                popDwellTotal += d
            }
        }
        return total
    }

    func gatherOwn(_ state: UserState, _ track: Track) -> SIMD8<Float> {
        var total = SIMD8<Float>.zero
        let current = track.visits[0].ap
        let p1 = track.previous(1), p2 = track.previous(2), p3 = track.previous(3)
        let history = state.history
        let end = history.count - 1
        guard end > 0 else { return total }
        for h in 0..<end {
            let visit = PackedVisit(bits: history[h])
            if visit.ap == current {
                let next = PackedVisit(bits: history[h + 1])
                if next.starts { continue }
                var match: Float = 0
                var overlap: Float = 0
                if h > 0 {
                    let b1 = PackedVisit(bits: history[h - 1]).ap
                    let b2 = h > 1 ? PackedVisit(bits: history[h - 2]).ap : -2
                    let b3 = h > 2 ? PackedVisit(bits: history[h - 3]).ap : -2
                    let b4 = h > 3 ? PackedVisit(bits: history[h - 4]).ap : -2
                    if b1 == p1 {
                        match = 1
                        if b2 == p2 { match = b3 == p3 ? 3 : 2 }
                    }
                    if p1 >= 0, p1 == b1 || p1 == b2 || p1 == b3 { overlap += 1 }
                    if p2 >= 0, p2 == b1 || p2 == b2 || p2 == b3 || p2 == b4 { overlap += 1 }
                    if p3 >= 0, p3 == b2 || p3 == b3 || p3 == b4 { overlap += 1 }
                }
                let slot = candidate(next.ap)
                if slot < 0 { continue }
                var soft: Float = overlap >= 3 ? 8 : overlap >= 2 ? 3 : overlap >= 1 ? 1 : 0.2
                if visit.slot == track.slot { soft *= 1.5 }
                let w: SIMD8<Float> = [
                    1, match >= 1 ? 1 : 0, match >= 2 ? 1 : 0, match >= 3 ? 1 : 0, soft, 0, visit.slot == track.slot ? 1 : 0, 0,
                ]
                own[slot] += w
                total += w
                ownVotes.append((Int32(h), soft))
                if visit.hasDwell, visit.logDwell < 5.2 {
                    let d: SIMD2<Float> = [soft, soft * visit.logDwell]
                    ownDwell[slot] += d
                    ownDwellTotal += d
                }
            } else if visit.ap == p1 && h + 1 < end {
                // The same way without this access point: what came next may come now.
                let b1 = h > 0 ? PackedVisit(bits: history[h - 1]).ap : -2
                let w: Float = b1 == p2 ? 2 : 1
                for step in 1...2 where h + step <= end {
                    let next = PackedVisit(bits: history[h + step])
                    if next.starts || next.ap == current { break }
                    if next.ap == p2 { continue }
                    let slot = candidate(next.ap)
                    if slot < 0 { break }
                    own[slot][5] += w
                    total[5] += w
                }
            }
        }
        return total
    }

    func describe(_ track: Track, _ ownTotal: SIMD8<Float>, _ popTotal: SIMD8<Float>) {
        let count = sample.candidates.count
        let current = Int(track.visits[0].ap)
        let speed = track.paceKnown ? (track.logPace < 2.3 ? 0 : 1) : 2
        var geometrySum: Float = 0
        let width = Sample.ownCount
        let neighbours = index.neighbours[current]
        for c in 0..<count {
            let ap = sample.candidates[c]
            let base = c * width
            for f in 12..<width { sample.own[base + f] = 0 }
            var cosine: Float = -9
            if track.placed, index.hasPosition(ap) {
                let delta = (index.positions[Int(ap)] - track.here) / track.spacing
                let length = (delta * delta).sum().squareRoot()
                let along = (delta * track.shortHeading).sum()
                let cross = abs(delta.x * track.shortHeading.y - delta.y * track.shortHeading.x)
                let alongLong = (delta * track.longHeading).sum()
                let crossLong = abs(delta.x * track.longHeading.y - delta.y * track.longHeading.x)
                sample.own[base + 12] = length - 1
                sample.own[base + 13] = along
                sample.own[base + 14] = cross
                sample.own[base + 15] = alongLong
                sample.own[base + 16] = crossLong
                if track.longHeading != .zero, length > 0 { cosine = alongLong / length }
            }
            var recency = 0
            for step in 1..<4 where step < track.used && track.visits[step].ap == ap {
                sample.own[base + 16 + step] = 1
                recency = step
                break
            }
            var rank = 15
            for near in neighbours.indices where neighbours[near] == ap { rank = near; break }
            sample.own[base + 20] = Float(rank) * 0.1
            let bucket = GeometryOdds.bucket(cosine: cosine, rank: rank, recency: recency, speed: speed)
            sample.bucket[c] = Int32(bucket)
            let odds = geometry.odds(bucket)
            sample.own[base + 11] = odds
            geometrySum += odds
        }
        for c in 0..<count {
            let base = c * width
            let g = sample.own[base + 11] / geometrySum
            let n = pop[c]
            var p = g
            var third = g
            for order in 0..<4 {
                p = (n[order] + 2 * p) / (popTotal[order] + 2)
                sample.own[base + order] = FastMath.log(p) * 0.5
                if order == 2 { third = p }
            }
            sample.own[base + 4] = FastMath.log((n[4] + 0.5 * g) / (popTotal[4] + 0.5)) * 0.5
            sample.own[base + 5] = FastMath.log((n[5] + 0.3 * g) / (popTotal[5] + 0.3)) * 0.5
            let u = own[c]
            var q = third
            for order in 0..<4 {
                q = (u[order] + 1 * q) / (ownTotal[order] + 1)
                sample.own[base + 6 + order] = FastMath.log(q) * 0.5
            }
            sample.own[base + 10] = FastMath.log((u[5] + third) / (ownTotal[5] + 1)) * 0.5
            sample.own[base + 21] = FastMath.log((u[4] + third) / (ownTotal[4] + 1)) * 0.5
            sample.own[base + 22] = FastMath.log((u[6] + third) / (ownTotal[6] + 1)) * 0.5
            sample.own[base + 11] = FastMath.log(g) * 0.5
        }
        for order in 0..<4 {
            sample.shared[order] = FastMath.log(1 + popTotal[order]) * 0.3
            sample.shared[4 + order] = FastMath.log(1 + ownTotal[order]) * 0.5
        }
        sample.shared[8] = FastMath.log(1 + popTotal[4]) * 0.3
        sample.shared[9] = FastMath.log(1 + popTotal[5]) * 0.3
        sample.shared[10] = FastMath.log(1 + ownTotal[4]) * 0.3
        sample.shared[11] = track.visits[0].rssi == 0 ? 0 : (track.visits[0].rssi + 84) * 0.1
        sample.shared[12] = track.paceKnown ? (track.logPace - 2.5) : 0
        sample.shared[13] = track.paceKnown ? 1 : 0
        sample.shared[14] = track.used > 1 ? track.lastLogDwell - 2.5 : 0
        sample.shared[15] = Float(track.used) * 0.2
        sample.shared[16] = (track.shortHeading * track.longHeading).sum()
        sample.shared[17] = track.placed ? 1 : 0
        sample.shared[18] = track.used > 2 && track.visits[2].ap == track.visits[0].ap ? 1 : 0
        sample.shared[19] = track.used > 2 ? FastMath.log(Float(max(track.visits[1].time - track.visits[2].time, 0.5))) - 2.5 : 0
    }

    /// Evidence for when the user would go to candidate `c`.
    func describeDwell(_ track: Track, _ c: Int) {
        let base = c * Sample.dwellCount
        let pace = track.paceKnown ? track.logPace : 2.5
        let popAll = (popDwellTotal.y + 0.3 * pace) / (popDwellTotal.x + 0.3)
        let popHere = (popDwell[c].y + 0.3 * popAll) / (popDwell[c].x + 0.3)
        let ownAll = (ownDwellTotal.y + popHere) / (ownDwellTotal.x + 1)
        let ownHere = (ownDwell[c].y + ownAll) / (ownDwell[c].x + 1)
        let features = c * Sample.ownCount
        let last = track.used > 1 ? min(track.lastLogDwell, 5.2) : pace
        let values: [Float] = [
            popHere, popAll, ownHere, ownAll, pace, last,
            sample.own[features + 12], sample.own[features + 13], sample.own[features + 14],
            FastMath.log(sample.probability[c] + 1e-4) * 0.3,
            FastMath.log(1 + popDwell[c].x) * 0.3, FastMath.log(1 + ownDwell[c].x) * 0.3,
            sample.shared[11], sample.shared[13], sample.shared[18], sample.shared[19],
            sample.own[features + 17], sample.shared[16], sample.shared[15], track.placed ? FastMath.log(track.spacing) - 4 : 0,
        ]
        for f in 0..<Sample.dwellCount { sample.dwell[base + f] = values[f] }
    }
}
