/// Corrects the first probability by how often such probabilities came true lately.
///
/// Fifteen bins; each holds what was said and what came true, with fifty sayings that were right to begin with, so that
/// little evidence corrects little. Between the centres of bins the correction is interpolated.
struct Calibration {
    private static let bins = 15
    private static let memory: Float = 3_000
    private static let doubt: Float = 50
    private var weight: [Float] = Array(repeating: 0, count: bins)
    private var error: [Float] = Array(repeating: 0, count: bins)

    private static func position(_ probability: Float) -> (bin: Int, share: Float) {
        let place = min(max(probability * Float(bins) - 0.5, 0), Float(bins - 1) - 0.001)
        return (Int(place), place - Float(Int(place)))
    }

    private func correction(_ bin: Int) -> Float { error[bin] / (weight[bin] + Self.doubt) }

    /// The corrected probability.
    func correct(_ probability: Float) -> Float {
        let (bin, share) = Self.position(probability)
        let change = correction(bin) * (1 - share) + correction(bin + 1) * share
        return min(max(probability + change, 0.01), 0.999)
    }

    /// Learns whether what `probability` was given to came true.
    mutating func learn(_ probability: Float, cameTrue: Bool) {
        let (bin, share) = Self.position(probability)
        let miss = (cameTrue ? 1 : 0) - probability
        for (place, part) in [(bin, 1 - share), (bin + 1, share)] {
            weight[place] += part
            error[place] += part * miss
            if weight[place] > Self.memory {
                weight[place] *= 0.5
                error[place] *= 0.5
            }
        }
    }

    /// Both columns, one after the other.
    var parameters: [Float] {
        get { weight + error }
        set {
            guard newValue.count == 2 * Self.bins, newValue.prefix(Self.bins).allSatisfy({ $0 >= 0 }) else { return }
            weight = Array(newValue[..<Self.bins])
            error = Array(newValue[Self.bins...])
        }
    }
}
