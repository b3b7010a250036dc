/// Trains the weights that the predictor ships with.
///
/// Only what is network-independent is kept: the weights of the four models and the odds of the geometry. Use the
/// records of training days only.
package enum PredictorTraining {
    /// Runs over the data sets `epochs` times, with a fresh memory each time, and returns the Swift source of
    /// `InitialWeightsData`.
    package static func train(_ sets: [MobilityDataSet], epochs: Int, rate: Float, scratch: Bool) -> String {
        var carried: Predictor?
        for epoch in 0..<epochs {
            for set in sets {
                let predictor = Predictor(map: set.map, shipped: !scratch)
                if let carried { carry(carried, to: predictor) }
                let slowing = rate * (1 - 0.8 * Float(epoch) / Float(epochs))
                for model in predictor.core.models.all { model.rate = slowing }
                for record in set.records {
                    if record.kind.isAssociation {
                        predictor.core.prepare(record, leads: [epoch % 2 == 0 ? 5 : 10, 2.5])
                    }
                    predictor.learn(record)
                }
                carried = predictor
            }
        }
        return carried.map { source($0) } ?? ""
    }

    /// Gives one predictor's trained weights to another.
    package static func carry(_ from: Predictor, to: Predictor) {
        for (old, new) in zip(from.core.models.all, to.core.models.all) { new.parameters = old.parameters }
        to.core.geometry.parameters = from.core.geometry.parameters
    }

    private static func source(_ predictor: Predictor) -> String {
        // Capped support, so that a network of another kind can move the odds.
        let odds = predictor.core.geometry.parameters
        var capped = odds
        for row in 0..<1024 {
            let shrink = min(1, 200 / odds[1024 + row])
            capped[row] = max(odds[row] * shrink, 1e-3)
            capped[1024 + row] = odds[1024 + row] * shrink
        }
        var text = "/// Written by `PredictorTraining`; see docs/mobility.md for the data that it was trained on.\n"
        text += "enum InitialWeightsData {\n    static let models: [String] = [\n"
        for model in predictor.core.models.shipped { text += quote(InitialWeights.encode(model.parameters), 8) + ",\n" }
        text += "    ]\n\n    static let geometry =\n"
        text += quote(InitialWeights.encode(capped.map { FastMath.log($0) }), 8)
        return text + "\n}\n"
    }

    private static func quote(_ text: String, _ indent: Int) -> String {
        let gap = String(repeating: " ", count: indent)
        var lines = [gap + "\"\"\""]
        var rest = Substring(text)
        while !rest.isEmpty {
            let line = rest.prefix(108)
            rest = rest.dropFirst(108)
            lines.append(gap + line + (rest.isEmpty ? "" : "\\"))
        }
        return (lines + [gap + "\"\"\""]).joined(separator: "\n")
    }
}
