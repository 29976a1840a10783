"""Wrong values of keys of the methods that score regions and of their data, in the form of `VALUES` in tests/bad_inputs.py."""

REGIONS = """
data=scenes_refer method=cpt method.markers: [] [circle] 5 ellipse [{name:ellipse,width:2}] | method.markers
data=scenes_refer method=cpt method.markers: [{name:crop,text:5}] [{name:ellipse,colour:pink}] | method.markers
data=scenes_refer method=cpt method.combine: mean 5
data=scenes_refer method=cpt method.combine_clips: mean
data=scenes_refer method=cpt method.clips: 5 [a]
data=scenes_refer method=cpt method.form: colour
data=scenes_refer method=cpt method.form=colours method.colours: 5 [red] [red,pink] {red:[1,2],blue:[1,2,3]} | method.colours
data=scenes_refer method=cpt method.form=colours method.colours: nowhere.json | nowhere.json
data=scenes_refer method=cpt method.colours: [red,blue] | method.form=colours
data=scenes_refer method=cpt method.calibrate: maybe
data=scenes_refer method=cpt method.subtract: -1 abc
data=scenes_refer method=cpt method.bank_seed: -1 1.5
data=scenes_refer method=cpt method.resize_mode: longest
data=scenes_refer method=cpt method.chunk: 0 abc
data=scenes_refer method=cpt_learned shots=4 method.marker: crop | learn_marker=false
data=scenes_refer method=cpt_learned shots=4 method.n_before: -1 abc
data=scenes_refer method=cpt_learned shots=4 method.none: drop
data=scenes_refer method=cpt_learned shots=4 method.marker_lr: -1 abc
"""
